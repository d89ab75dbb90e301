"""The service: makes or loads the keys, tells the public half, signs and decrypts."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.model import kinds
from edgevirt.model.node import Identity, SigningKey
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service
from edgevirt.node.trust.keys import Keys, load_or_make, read_key
from edgevirt.node.trust.secrets import Secrets
from edgevirt.node.trust.signatures import Signatures
from edgevirt.runtime import engine
from edgevirt.runtime.store import release


async def run(context: Context) -> None:
    serial = context.settings.serial
    keys = load_or_make(context.paths.keys, serial, context.clock.now())
    signing = {SigningKey.DEVICE: keys.device, **_onboarding(context.paths)}
    await context.store.put(kinds.IDENTITY, "node", _identity(keys, context.paths, serial))
    await release(context.store, (kinds.IDENTITY,))
    controllers = (Signatures(signing), Secrets(keys.ecdh, keys.ecdh_cert))
    await engine.run(context.store, context.clock, controllers)


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
        onboarding_cert=onboarding.read_text() if onboarding.exists() else "",
        serial=serial,
        soft_serial=soft.read_text().strip() if soft.exists() else "",
    )


SERVICE = Service(
    name="trust",
    reads=(*Signatures.reads, *Secrets.reads),
    owns=(kinds.IDENTITY, *Signatures.owns, *Secrets.owns),
    run=run,
)
