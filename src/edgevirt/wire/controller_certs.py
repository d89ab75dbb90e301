"""The controller's published certificates: the list it serves, and how a node accepts one.

A node believes a list because each certificate in it leads to a root that was installed with the
node; the envelope around the list proves nothing, since its signer is in the list itself.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgevirt.wire import certificates
from edgevirt.wire.certificates import CertificateError
from edgevirt.wire.errors import Reason
from edgevirt.wire.messages import certs
from edgevirt.wire.signatures import PublicKey

MAX_CERTIFICATES: Final = 64

_ALLOWED_USAGES: Final = frozenset(
    (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
)


class SigningCert(msgspec.Struct, frozen=True):
    """Who signs the controller's envelopes: the full hash that they carry, and the key.

    `not_before` lets a caller refuse a list that is older than the one it has.
    """

    cert_hash: bytes
    key: PublicKey
    not_before: datetime


class ControllerCerts(msgspec.Struct, frozen=True):
    """An accepted list; `exchanges` by the hash under which cipher contexts name them."""

    signing: SigningCert
    exchanges: Mapping[bytes, ec.EllipticCurvePublicKey]


def publish(
    signing_pem: bytes, exchange_pems: Sequence[bytes], intermediate_pems: Sequence[bytes] = ()
) -> certs.ZControllerCert:
    """The list to serve; envelopes must name the signing certificate by these very PEM bytes."""
    roles = [
        (signing_pem, certs.CERT_TYPE_CONTROLLER_SIGNING),
        *((pem, certs.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE) for pem in exchange_pems),
        *((pem, certs.CERT_TYPE_CONTROLLER_INTERMEDIATE) for pem in intermediate_pems),
    ]
    return certs.ZControllerCert(certs=[certificates.describe(pem, role) for pem, role in roles])


def list_hash(published: certs.ZControllerCert) -> str:
    """A name of the list's content; when it changes in a config, nodes fetch the list anew."""
    digest = hashlib.sha256()
    for entry in published.certs:
        digest.update(certificates.pem_hash(entry.cert))
    return base64.urlsafe_b64encode(digest.digest()).decode()


def verify_controller_certs(
    published: certs.ZControllerCert,
    root_pem: bytes,
    now: datetime,
    exchange_required: bool = True,
) -> ControllerCerts:
    """Accept a list as a whole or raise CertificateError.

    It must hold exactly one signing certificate, at least one for key exchange (unless it is the
    offline bootstrap's), any number of intermediates and nothing else; each of the first two must
    lead to one of the roots in `root_pem`, all along valid at `now`.
    """
    entries = _sort_by_role(published, exchange_required)
    verifier = _verifier(root_pem, now)
    between = [
        certificate
        for entry in entries[certs.CERT_TYPE_CONTROLLER_INTERMEDIATE]
        for certificate in certificates.load_pems(entry.cert)
    ]
    (signer,) = entries[certs.CERT_TYPE_CONTROLLER_SIGNING]
    signing = certificates.load_pem(signer.cert)
    _require_chain(verifier, signing, between)
    exchanges = {}
    for entry in entries[certs.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE]:
        certificate = certificates.load_pem(entry.cert)
        _require_chain(verifier, certificate, between)
        exchanges[entry.certHash] = _exchange_key(certificate)
    return ControllerCerts(
        SigningCert(
            certificates.pem_hash(signer.cert),
            certificates.public_key_of(signing),
            signing.not_valid_before_utc,
        ),
        exchanges,
    )


def verify_signing(pem: bytes, root_pem: bytes, now: datetime) -> PublicKey:
    """The key of a signing certificate that leads to a root by itself. Raises CertificateError."""
    signing = certificates.load_pem(pem)
    _require_chain(_verifier(root_pem, now), signing, [])
    return certificates.public_key_of(signing)


_ByRole = dict[certs.ZCertType, list[certs.ZCert]]


def _sort_by_role(published: certs.ZControllerCert, exchange_required: bool) -> _ByRole:
    if len(published.certs) > MAX_CERTIFICATES:
        raise CertificateError(
            Reason.TOO_LARGE, f"cannot accept certificates: more than {MAX_CERTIFICATES}"
        )
    entries: _ByRole = {
        certs.CERT_TYPE_CONTROLLER_SIGNING: [],
        certs.CERT_TYPE_CONTROLLER_INTERMEDIATE: [],
        certs.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE: [],
    }
    for entry in published.certs:
        if entry.type not in entries:
            raise CertificateError(
                Reason.BAD_LIST, f"cannot accept certificates: type {entry.type} among them"
            )
        entries[entry.type].append(entry)
    signers = len(entries[certs.CERT_TYPE_CONTROLLER_SIGNING])
    if signers != 1:
        raise CertificateError(
            Reason.BAD_LIST, f"cannot accept certificates: {signers} of them sign instead of one"
        )
    if exchange_required and not entries[certs.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE]:
        raise CertificateError(
            Reason.BAD_LIST, "cannot accept certificates: none is for key exchange"
        )
    return entries


def _verifier(root_pem: bytes, now: datetime) -> verification.ClientVerifier:
    """Path validation as Go's crypto/x509 does it by default, names aside."""
    leaf = verification.ExtensionPolicy.permit_all().may_be_present(
        x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _require_usage
    )
    authority = leaf.require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
    builder = verification.PolicyBuilder().store(
        verification.Store(certificates.load_pems(root_pem))
    )
    policies = builder.extension_policies(ca_policy=authority, ee_policy=leaf)
    return policies.time(now).build_client_verifier()


def _require_usage(
    policy: verification.Policy, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    """A certificate that limits its usage must admit serverAuth; the verifier asks this."""
    if usage is not None and _ALLOWED_USAGES.isdisjoint(usage):
        raise ValueError("extended key usage admits no serverAuth")


def _require_chain(
    verifier: verification.ClientVerifier,
    certificate: x509.Certificate,
    between: list[x509.Certificate],
) -> None:
    try:
        verifier.verify(certificate, between)
    except (verification.VerificationError, ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(Reason.UNTRUSTED, f"cannot trust certificate: {error}") from error


def _exchange_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificates.public_key_of(certificate)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(Reason.BAD_KEY, "cannot use certificate: no P-256 key for exchange")
    return key
