"""Rendering apps' screens. Pure.

EVE has a field for a screen's password, in clear, and none for it in a cipher block. Ours is in
the app's block, as `encrypted_data`; in the field is a word that nobody is told, so that a node
that does not look into the block lets nobody in rather than everybody.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.render.nouns import Cipher, Objects, derive
from edgevirt.model.access import Vnc
from edgevirt.model.content import CipherBlock
from edgevirt.wire import cipher
from edgevirt.wire.messages import common


def screen(instance: AppInstance, app: App) -> Vnc | None:
    wanted = app.spec.vnc
    if wanted is None:
        return None
    nobodys = derive(instance.metadata.uid, "screen").replace("-", "")[:8]
    return Vnc(display=wanted.display, password=nobodys)


def lacking(app: App, objects: Objects) -> str:
    """Why its password cannot be sent; empty: it can, or there is none."""
    wanted = app.spec.vnc
    if wanted is None:
        return ""
    name = wanted.password_secret_ref.name if wanted.password_secret_ref else ""
    if app.metadata.name not in objects.screen_passwords:
        return f"Secret {name!r} cannot be read"
    if not objects.screen_passwords[app.metadata.name]:
        return f"Secret {name!r} has no password"
    return "" if objects.cipher is not None else "the node has not sent its encryption key yet"


def are_secret(apps: Iterable[App]) -> bool:
    """Whether something of these apps is encrypted."""
    return any(app.spec.vnc is not None for app in apps)


def sealed(app: App, user_data: str, objects: Objects) -> CipherBlock | None:
    """Its password, and its user data besides: a node takes that from the block if there is one.
    `lacking` said nothing.
    """
    if app.spec.vnc is None or objects.cipher is None:
        return None
    password = objects.screen_passwords[app.metadata.name]
    held = common.EncryptionBlock(protectedUserData=user_data, encrypted_data=password)
    return seal(objects.cipher, held)


def seal(secret: Cipher, held: common.EncryptionBlock) -> CipherBlock:
    block = cipher.seal_secrets(secret.key, secret.context.id, held)
    return CipherBlock(
        context_id=block.cipherContextId,
        initial_value=block.initialValue,
        data=block.cipherData,
        clear_sha256=block.clearTextSha256,
    )
