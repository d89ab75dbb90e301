"""What a new node is given before it first calls: whom to call, whom to trust, how to be let in.

The files are named as EVE has them on its CONFIG partition, so they serve a stock EVE node too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.keys import write_private
from edgevirt.wire import certificates

LIFETIME = timedelta(days=365 * 5)
BACKDATED = timedelta(days=1)
"""The machine's clock may be behind."""


def write_node_files(
    directory: Path, *, root_pem: bytes, server: str, serial: str, now: float
) -> None:
    """`server`: `HOST:PORT`. An onboarding key that is there already is kept.

    Whoever holds `onboard.key.pem` may ask to be let in, as the OnboardingKey with its certificate
    says; it is no more than that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    write_private(directory / "server", f"{server}\n".encode())
    write_private(directory / "root-certificate.pem", root_pem)
    write_private(directory / "soft_serial", f"{serial}\n".encode())
    if not (directory / "onboard.key.pem").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        begin = datetime.fromtimestamp(now, UTC)
        validity = certificates.Validity(begin - BACKDATED, begin + LIFETIME)
        certificate = certificates.make_onboarding("onboarding", key, validity)
        write_private(directory / "onboard.cert.pem", certificates.to_pem(certificate))
        write_private(
            directory / "onboard.key.pem",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
