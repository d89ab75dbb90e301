"""Certificates of both sides: made, packed as PEM, and named by their hashes.

Time is always given, never read. A private key may be any object with the interface of an elliptic
curve key, one that asks a TPM or another process included.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.messages import certs, common
from edgevirt.wire.signatures import PublicKey

SHORT_HASH_SIZE: Final = 16

_MAX_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name


class CertificateError(WireError):
    """A certificate, or a list of them, that cannot be accepted."""


class Validity(msgspec.Struct, frozen=True):
    """From when until when, both with a time zone and both included."""

    not_before: datetime
    not_after: datetime


class Issuer(msgspec.Struct, frozen=True):
    """Who signs: a CA's certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_root(name: str, key: ec.EllipticCurvePrivateKey, validity: Validity) -> x509.Certificate:
    """A self-signed CA: what a node is told to trust."""
    return _sign_self(name, key, validity, _authority(None))


def make_intermediate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: Issuer, validity: Validity
) -> x509.Certificate:
    """A CA below a root, for leaves alone."""
    return _sign(_builder(name, key, validity), issuer, _authority(0))


def make_server(
    hosts: Sequence[str], key: ec.EllipticCurvePublicKey, issuer: Issuer, validity: Validity
) -> x509.Certificate:
    """The controller's TLS certificate for these names and addresses."""
    extensions = [
        *_leaf(_usage(digital_signature=True)),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False),
    ]
    return _sign(_builder(hosts[0][:_MAX_COMMON_NAME], key, validity), issuer, extensions)


def make_signing(
    name: str, key: ec.EllipticCurvePublicKey, issuer: Issuer, validity: Validity
) -> x509.Certificate:
    """The controller's certificate for envelopes.

    It carries no extended key usage: nodes would demand serverAuth among them.
    """
    return _sign(_builder(name, key, validity), issuer, _leaf(_usage(digital_signature=True)))


def make_exchange(
    name: str, key: ec.EllipticCurvePublicKey, issuer: Issuer, validity: Validity
) -> x509.Certificate:
    """A key agreement certificate: the controller's under its CA, a node's under its device key."""
    return _sign(_builder(name, key, validity), issuer, _leaf(_usage(key_agreement=True)))


def make_quote(
    name: str, key: ec.EllipticCurvePublicKey, issuer: Issuer, validity: Validity
) -> x509.Certificate:
    """Of the key that signs a TPM's quotes, under the device key."""
    return _sign(_builder(name, key, validity), issuer, _leaf(_usage(digital_signature=True)))


def make_onboarding(
    name: str, key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.Certificate:
    """The self-signed certificate that lets a new node in; many nodes may share it."""
    return _sign_self(name, key, validity, _leaf(_usage(digital_signature=True)))


def make_device(name: str, key: ec.EllipticCurvePrivateKey, validity: Validity) -> x509.Certificate:
    """A node's identity: self-signed, and a CA for the node's own other keys."""
    return _sign_self(name, key, validity, _authority(0))


def to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def load_pem(pem: bytes) -> x509.Certificate:
    """The first certificate of a PEM file; what follows it is not looked at."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(Reason.MALFORMED, f"cannot read certificate: {error}") from error


def load_pems(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(Reason.MALFORMED, f"cannot read certificates: {error}") from error


def public_key_of(certificate: x509.Certificate) -> PublicKey:
    """The key that a certificate names, if it is of a sort that envelopes know."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(Reason.BAD_KEY, f"cannot read certificate: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise CertificateError(Reason.BAD_KEY, "cannot use certificate: its key is no EC or RSA")
    return key


def der_hash(certificate: x509.Certificate) -> bytes:
    """32 bytes by which a node's or an onboarding certificate is named in envelopes."""
    return certificate.fingerprint(hashes.SHA256())


def pem_hash(pem: bytes) -> bytes:
    """32 bytes by which the controller's signing certificate is named in envelopes.

    `pem`: exactly the bytes that were published; one more line break is another certificate.
    """
    return hashlib.sha256(pem).digest()


def short_pem_hash(pem: bytes) -> bytes:
    """16 bytes by which lists and cipher contexts name a certificate."""
    return pem_hash(pem)[:SHORT_HASH_SIZE]


def describe(pem: bytes, role: certs.ZCertType, metadata: bytes = b"") -> certs.ZCert:
    """A certificate as it is sent, `metadata` being a TPM's public area where there is one."""
    described = certs.ZCert(
        hashAlgo=common.HASH_ALGORITHM_SHA256_16BYTES,
        certHash=short_pem_hash(pem),
        type=role,
        cert=pem,
    )
    if metadata:
        described.meta_data_items.add(
            type=certs.Z_CERT_META_DATA_TYPE_TPM2_PUBLIC, meta_data=metadata
        )
    return described


def require_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Raise UNTRUSTED unless `issuer` signed `certificate`: a node's keys under its identity."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise CertificateError(
            Reason.UNTRUSTED, "cannot trust certificate: its issuer did not sign it"
        ) from error


_Extensions = Sequence[tuple[x509.ExtensionType, bool]]


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _sign(
    builder: x509.CertificateBuilder, issuer: Issuer, extensions: _Extensions
) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = builder.issuer_name(issuer.certificate.subject)
    return _extend(builder, [*extensions, (authority, False)]).sign(issuer.key, hashes.SHA256())


def _sign_self(
    name: str, key: ec.EllipticCurvePrivateKey, validity: Validity, extensions: _Extensions
) -> x509.Certificate:
    builder = _builder(name, key.public_key(), validity).issuer_name(_name(name))
    return _extend(builder, extensions).sign(key, hashes.SHA256())


def _extend(builder: x509.CertificateBuilder, extensions: _Extensions) -> x509.CertificateBuilder:
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder


def _authority(path_length: int | None) -> _Extensions:
    usage = _usage(digital_signature=True, key_cert_sign=True, crl_sign=True)
    return [(x509.BasicConstraints(ca=True, path_length=path_length), True), (usage, True)]


def _leaf(usage: x509.KeyUsage) -> _Extensions:
    return [(x509.BasicConstraints(ca=False, path_length=None), True), (usage, True)]


def _usage(
    digital_signature: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
