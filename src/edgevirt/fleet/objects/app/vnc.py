"""An app's screen at a port of its node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgevirt.fleet.objects.base.object import ApiStruct, LocalRef
from edgevirt.fleet.objects.base.problems import Problem, invalid, required

MOST_DISPLAY: Final = 99


class AppVnc(ApiStruct, frozen=True, kw_only=True):
    """The app's screen at a port of the node, where the node's property `app.allow.vnc` is `true`.
    `edgevirt vnc` needs none of this."""

    display: int = 0
    """The port is 5900 and this; 0 to 99."""
    password_secret_ref: LocalRef | None = None
    """A Secret whose `password` is asked for; VNC uses its first 8 characters. It is encrypted for
    the node; EVE's own nodes cannot read it there, and let nobody in."""


def check_vnc(vnc: AppVnc | None, *, machine: bool) -> Iterator[Problem]:
    if vnc is None:
        return
    if not machine:
        yield invalid("spec.vnc.display", vnc.display, "only a virtual machine has a screen")
    elif not 0 <= vnc.display <= MOST_DISPLAY:
        why = f"must be between 0 and {MOST_DISPLAY}"
        yield invalid("spec.vnc.display", vnc.display, why)
    if vnc.password_secret_ref is None or not vnc.password_secret_ref.name:
        yield required("spec.vnc.passwordSecretRef.name", "the port is open to a whole network")
