"""The service: makes or loads the keys, tells the public half, signs, decrypts, opens the vault."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.module import open_tpm
from edgevirt.host.tpm.protocol import Facts, SecurityModule
from edgevirt.host.vault import EncryptedDirectory
from edgevirt.model import kinds
from edgevirt.model import trust as model
from edgevirt.model.node import Identity, SigningKey
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service
from edgevirt.node.troubles import worsen
from edgevirt.node.trust import keys as software_keys
from edgevirt.node.trust import module_keys
from edgevirt.node.trust.keys import Keys, has_software_keys, read_key
from edgevirt.node.trust.quotes import Quotes
from edgevirt.node.trust.sealed_keys import SealedKeys
from edgevirt.node.trust.secrets import Secrets
from edgevirt.node.trust.signatures import Signatures
from edgevirt.node.trust.vault import Keeper
from edgevirt.node.trust.vault_report import VaultReport
from edgevirt.node.trust.worker import Worker
from edgevirt.runtime import engine
from edgevirt.runtime.store import release

_log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """What this machine keeps its keys in. `module`: None when they are in software."""

    keys: Keys
    module: SecurityModule | None = None
    facts: Facts | None = None


async def run(context: Context) -> None:
    held = await _insist(context)
    worker = Worker(module=held.module is not None)
    paths, serial = context.paths, context.settings.serial
    signing = {SigningKey.DEVICE: held.keys.device, **_onboarding(paths)}
    await context.store.put(kinds.IDENTITY, "node", _identity(held.keys, paths, serial))
    await context.store.put(kinds.SECURITY_MODULE, "node", _module_status(held))
    await release(context.store, (kinds.IDENTITY, kinds.SECURITY_MODULE))
    keeper = Keeper(
        EncryptedDirectory(paths.vault),
        SealedKeys(paths.keys),
        held.module,
        held.keys.agree,
        held.keys.device_cert,
    )
    controllers = (
        Signatures(signing, worker),
        Secrets(held.keys.agree, held.keys.ecdh_cert),
        Quotes(held.module, paths.measured, paths.firmware_log, worker),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.run(context.store, context.clock, controllers))
        group.create_task(VaultReport(context, keeper, worker).run())


async def _insist(context: Context) -> Held:
    """A TPM that fails is tried again: without it the node would become another one."""
    worker = Worker(module=context.paths.tpm.exists())
    trouble = None
    while True:
        now = context.clock.now()
        try:
            return await worker.run(partial(load, context.paths, context.settings.serial, now))
        except TpmError as error:
            _log.error("%s", error)
            trouble = worsen(trouble, error, now, MODULE_RETRY)
            failed = model.SecurityModule(state=model.ModuleState.FAILED, trouble=trouble)
            await context.store.put(kinds.SECURITY_MODULE, "node", failed)
            await context.clock.sleep(MODULE_RETRY)


MODULE_RETRY = 10.0
"""Seconds."""


def load(paths: Paths, serial: str, now: float) -> Held:
    """Raises TpmError, and KeysError when what is there cannot be the node's."""
    given = (paths.device_key, paths.device_certificate)
    if not has_software_keys(paths.keys, paths.device_key):
        module = open_tpm(paths.tpm, _owner_password(paths))
        if module is not None:
            keys = module_keys.load_or_make(module, paths.keys, serial, now)
            return Held(keys, module, module.facts())
    return Held(software_keys.load_or_make(paths.keys, serial, now, given))


def _owner_password(paths: Paths) -> bytes:
    try:
        return paths.tpm_credential.read_bytes().strip()
    except OSError:
        return b""


def _onboarding(paths: Paths) -> dict[SigningKey, ec.EllipticCurvePrivateKey]:
    """A node that was enrolled beforehand has none."""
    if not paths.onboarding_key.exists():
        return {}
    return {SigningKey.ONBOARDING: read_key(paths.onboarding_key)}


def _identity(keys: Keys, paths: Paths, serial: str) -> Identity:
    onboarding = paths.onboarding_certificate
    soft = paths.soft_serial
    return Identity(
        device_cert=keys.device_cert.decode(),
        ecdh_cert=keys.ecdh_cert.decode(),
        quote_cert=keys.quote_cert.decode(),
        endorsement_cert=keys.endorsement_cert.decode(),
        endorsement_public=keys.endorsement_public,
        onboarding_cert=onboarding.read_text() if onboarding.exists() else "",
        serial=serial,
        soft_serial=soft.read_text().strip() if soft.exists() else "",
    )


def _module_status(held: Held) -> model.SecurityModule:
    if held.facts is None:
        return model.SecurityModule(state=model.ModuleState.ABSENT)
    return model.SecurityModule(
        state=model.ModuleState.WORKING,
        manufacturer=held.facts.manufacturer,
        firmware=held.facts.firmware,
        specification=held.facts.specification,
        holds_identity=True,
    )


SERVICE = Service(
    name="trust",
    reads=(
        Signatures.spec,
        *Secrets.reads,
        Quotes.spec,
        kinds.CONTROLLER_VAULT_KEY,
        kinds.SLOT,
    ),
    owns=(
        kinds.IDENTITY,
        kinds.SECURITY_MODULE,
        Signatures.status,
        *Secrets.owns,
        Quotes.status,
        kinds.VAULT_STATUS,
        kinds.ESCROW_KEY,
    ),
    run=run,
)
