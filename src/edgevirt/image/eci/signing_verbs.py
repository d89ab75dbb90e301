"""`edgevirt eci make-key|sign|verify`: who made an image, proved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevirt.image.eci.verbs import CA, FILE, ca_pems, password_of, run_async, told

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


@click.command("make-key", short_help="Make a key pair to sign with.")
@click.argument("name", type=click.Path(path_type=Path))
@click.option("--password-file", type=FILE, metavar="FILE", help="Encrypt the private key.")
def make_key(name: Path, password_file: Path | None) -> None:
    """Make NAME.key, which signs, and NAME.pub, which proves."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgevirt.wire import cosign

    key = ec.generate_private_key(ec.SECP256R1())
    password = password_of(password_file)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )
    with told():
        private, public = name.with_name(name.name + ".key"), name.with_name(name.name + ".pub")
        taken = next((path for path in (private, public) if path.exists()), None)
        if taken is not None:
            why = f"cannot make a key: {taken} exists; remove it, or give another name"
            raise click.ClickException(why)
        descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed)
        public.write_text(cosign.public_pem(key))
    click.echo(f"wrote {private} (keep it secret) and {public}")


@click.command(short_help="Sign an image in a registry.")
@click.argument("reference")
@click.option("--key", type=FILE, required=True, metavar="FILE", help="Private key (PEM, P-256).")
@click.option("--password-file", type=FILE, metavar="FILE", help="Opens the key.")
@CA
def sign(reference: str, key: Path, password_file: Path | None, ca: Path | None) -> None:
    """Sign HOST/REPOSITORY[:TAG][@DIGEST]: its digest, as cosign does, beside the image."""
    from edgevirt.image.eci import registry, signing
    from edgevirt.wire import cosign

    async def work(opened: ec.EllipticCurvePrivateKey) -> str:
        remote = registry.parse_remote(reference)
        async with (
            registry.source_of(remote, ca_pems(ca)) as source,
            registry.pusher_to(remote, ca_pems(ca)) as pusher,
        ):
            return await signing.sign(source, pusher, remote, opened)

    with told():
        opened = cosign.parse_private_key(key.read_bytes(), password_of(password_file))
        click.echo(run_async(work(opened)))


@click.command(short_help="Prove an image's signatures.")
@click.argument("reference")
@click.option(
    "--key", "keys", type=FILE, required=True, multiple=True, metavar="FILE",
    help="Public key (PEM); one of them must have signed. May be repeated.",
)  # fmt: skip
@CA
def verify(reference: str, keys: tuple[Path, ...], ca: Path | None) -> None:
    """Prove that HOST/REPOSITORY[:TAG][@DIGEST] is signed by a key; exit status 1 if not."""
    from edgevirt.image.eci import registry, signing

    async def work() -> str:
        remote = registry.parse_remote(reference)
        pems = tuple(path.read_text() for path in keys)
        async with registry.source_of(remote, ca_pems(ca)) as source:
            digest, found = await signing.verify(source, remote, pems)
        names = ", ".join(str(keys[pems.index(pem)]) for pem in found)
        return f"{digest} signed by {names}"

    with told():
        click.echo(run_async(work()))
