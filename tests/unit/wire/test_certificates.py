"""What peers would refuse, or must not accept, of certificates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.wire import certificates, controller_certs, envelope
from edgevirt.wire.certificates import CertificateError, Issuer, Validity
from edgevirt.wire.controller_certs import verify_controller_certs
from edgevirt.wire.errors import Reason
from edgevirt.wire.messages import certs, common

NOW = datetime(2046, 6, 1, tzinfo=UTC)  # far from any clock that could be read by mistake
DAY = timedelta(days=1)
VALID = Validity(NOW - DAY, NOW + 365 * DAY)
EXPIRED = Validity(NOW - 9 * DAY, NOW - DAY)
EARLY = Validity(NOW + DAY, NOW + 9 * DAY)


def key(seed: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(seed, ec.SECP256R1())


ROOT_KEY, MIDDLE_KEY, SIGNING_KEY, EXCHANGE_KEY, DEVICE_KEY = (key(n) for n in range(11, 16))


@dataclass(frozen=True)
class Published:
    """A controller's certificates as PEM; each field can be swapped for a worse one."""

    root: bytes
    signing: bytes
    exchange: bytes
    middle: bytes

    def listed(self) -> certs.ZControllerCert:
        return controller_certs.publish(self.signing, [self.exchange], [self.middle])


def controller(
    root: Validity = VALID,
    middle: Validity = VALID,
    signing: Validity = VALID,
    exchange: Validity = VALID,
) -> Published:
    top = Issuer(certificates.make_root("root", ROOT_KEY, root), ROOT_KEY)
    between = Issuer(
        certificates.make_intermediate("middle", MIDDLE_KEY.public_key(), top, middle), MIDDLE_KEY
    )
    signer = certificates.make_signing("signing", SIGNING_KEY.public_key(), between, signing)
    agreed = certificates.make_exchange("exchange", EXCHANGE_KEY.public_key(), between, exchange)
    found = (top.certificate, signer, agreed, between.certificate)
    return Published(*(certificates.to_pem(certificate) for certificate in found))


GOOD = controller()


def refusal(published: certs.ZControllerCert, root: bytes = GOOD.root) -> Reason:
    with pytest.raises(CertificateError) as caught:
        verify_controller_certs(published, root, NOW)
    assert str(caught.value).startswith("cannot ")
    return caught.value.reason


def with_entry(pem: bytes, role: certs.ZCertType) -> certs.ZControllerCert:
    published = GOOD.listed()
    published.certs.append(certificates.describe(pem, role))
    return published


def leaf(
    extensions: Sequence[x509.ExtensionType], signing_key: ec.EllipticCurvePrivateKey = ROOT_KEY
) -> bytes:
    """A leaf directly under the root with extensions of the test's choice."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .public_key(SIGNING_KEY.public_key())
        .serial_number(1)
        .not_valid_before(VALID.not_before)
        .not_valid_after(VALID.not_after)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return certificates.to_pem(builder.sign(signing_key, hashes.SHA256()))


def test_a_node_would_refuse_our_own_list_or_take_the_wrong_keys_from_it() -> None:
    accepted = verify_controller_certs(GOOD.listed(), GOOD.root, NOW)
    assert accepted.signing.key == SIGNING_KEY.public_key()
    assert accepted.signing.not_before == VALID.not_before
    assert accepted.signing.cert_hash == hashlib.sha256(GOOD.signing).digest()
    assert accepted.exchanges == {
        hashlib.sha256(GOOD.exchange).digest()[:16]: EXCHANGE_KEY.public_key()
    }


def test_a_node_would_miss_the_certificate_of_every_envelope() -> None:
    accepted = verify_controller_certs(GOOD.listed(), GOOD.root, NOW)
    sealed = envelope.seal(b"config", SIGNING_KEY, certificates.pem_hash(GOOD.signing))
    opened = envelope.open_envelope(sealed, 1000)
    envelope.require_sender(opened, accepted.signing.cert_hash)
    envelope.verify(accepted.signing.key, opened)


def test_certificates_would_be_listed_under_hashes_that_no_peer_computes() -> None:
    entry = GOOD.listed().certs[0]
    assert entry.hashAlgo == common.HASH_ALGORITHM_SHA256_16BYTES
    assert entry.certHash == hashlib.sha256(entry.cert).digest()[:16]
    assert entry.cert == GOOD.signing
    der = x509.load_pem_x509_certificate(GOOD.signing).public_bytes(serialization.Encoding.DER)
    assert certificates.der_hash(certificates.load_pem(GOOD.signing)) == (
        hashlib.sha256(der).digest()
    )


def test_the_published_hash_would_be_computed_anew_instead_of_taken_as_sent() -> None:
    published = GOOD.listed()
    published.certs[1].certHash = b"another name 16b"
    accepted = verify_controller_certs(published, GOOD.root, NOW)
    assert list(accepted.exchanges) == [b"another name 16b"]


def test_bytes_after_the_first_certificate_would_change_the_key_or_not_the_hash() -> None:
    doubled = GOOD.signing + b"\n" + GOOD.exchange
    published = controller_certs.publish(doubled, [GOOD.exchange], [GOOD.middle])
    accepted = verify_controller_certs(published, GOOD.root, NOW)
    assert accepted.signing.key == SIGNING_KEY.public_key()
    assert accepted.signing.cert_hash == hashlib.sha256(doubled).digest()


def test_a_bootstrap_file_without_an_exchange_certificate_would_be_refused() -> None:
    published = controller_certs.publish(GOOD.signing, [], [GOOD.middle])
    assert refusal(published) is Reason.BAD_LIST
    accepted = verify_controller_certs(published, GOOD.root, NOW, exchange_required=False)
    assert accepted.exchanges == {}


@pytest.mark.parametrize(
    "role", [role for role in certs.ZCertType.values() if role not in (1, 2, 3)]
)
def test_a_list_with_a_foreign_type_would_be_accepted(role: certs.ZCertType) -> None:
    assert refusal(with_entry(GOOD.exchange, role)) is Reason.BAD_LIST


def test_a_list_with_no_or_two_signers_would_be_accepted() -> None:
    two = with_entry(GOOD.signing, certs.CERT_TYPE_CONTROLLER_SIGNING)
    assert refusal(two) is Reason.BAD_LIST
    none = GOOD.listed()
    del none.certs[0]
    assert refusal(none) is Reason.BAD_LIST
    assert refusal(certs.ZControllerCert()) is Reason.BAD_LIST


def test_an_endless_list_would_be_verified() -> None:
    published = GOOD.listed()
    for _ in range(controller_certs.MAX_CERTIFICATES):
        published.certs.append(published.certs[2])
    assert refusal(published) is Reason.TOO_LARGE


@pytest.mark.parametrize("validity", [EXPIRED, EARLY])
@pytest.mark.parametrize("which", ["root", "middle", "signing", "exchange"])
def test_a_certificate_outside_its_time_would_be_trusted(which: str, validity: Validity) -> None:
    published = controller(**{which: validity})
    assert refusal(published.listed(), published.root) is Reason.UNTRUSTED


def test_a_list_without_its_intermediate_would_be_trusted() -> None:
    bare = controller_certs.publish(GOOD.signing, [GOOD.exchange])
    assert refusal(bare) is Reason.UNTRUSTED


def test_any_other_root_would_be_trusted() -> None:
    stranger = certificates.to_pem(certificates.make_root("root", key(99), VALID))
    assert refusal(GOOD.listed(), stranger) is Reason.UNTRUSTED
    verify_controller_certs(GOOD.listed(), stranger + GOOD.root, NOW)


def test_a_leaf_could_issue_the_signing_certificate() -> None:
    exchange = certificates.load_pem(GOOD.exchange)
    forged = certificates.make_signing(
        "signing", key(98).public_key(), Issuer(exchange, EXCHANGE_KEY), VALID
    )
    published = controller_certs.publish(
        certificates.to_pem(forged), [GOOD.exchange], [GOOD.middle, GOOD.exchange]
    )
    assert refusal(published) is Reason.UNTRUSTED


def test_a_signing_certificate_by_a_stranger_would_be_trusted() -> None:
    forged = leaf([], signing_key=key(97))
    assert refusal(controller_certs.publish(forged, [GOOD.exchange], [GOOD.middle])) is (
        Reason.UNTRUSTED
    )


@pytest.mark.parametrize(
    ("usages", "accepted"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], False),
        ([ExtendedKeyUsageOID.CODE_SIGNING], False),
    ],
)
def test_a_limited_usage_would_be_judged_otherwise_than_by_stock_nodes(
    usages: list[x509.ObjectIdentifier], accepted: bool
) -> None:
    signing = leaf([x509.ExtendedKeyUsage(usages)])
    published = controller_certs.publish(signing, [GOOD.exchange], [GOOD.middle])
    if accepted:
        verify_controller_certs(published, GOOD.root, NOW)
    else:
        assert refusal(published) is Reason.UNTRUSTED


def test_our_own_certificates_would_limit_their_usage_and_be_refused() -> None:
    for pem in (GOOD.signing, GOOD.exchange):
        with pytest.raises(x509.ExtensionNotFound):
            certificates.load_pem(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage)


@given(st.binary(max_size=200), st.sampled_from([0, 1, 2]), st.integers(0, 400))
def test_garbage_in_a_list_would_raise_what_no_caller_expects(
    garbage: bytes, index: int, cut: int
) -> None:
    published = GOOD.listed()
    entry = published.certs[index]
    entry.cert = entry.cert[:cut] + garbage
    with pytest.raises(CertificateError):
        verify_controller_certs(published, GOOD.root, NOW)


# A flipped sign makes a negative serial number, of which the library warns before it is refused.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.sampled_from([0, 1, 2]), st.data())
def test_one_flipped_bit_in_a_certificate_would_be_trusted(index: int, data: st.DataObject) -> None:
    published = GOOD.listed()
    entry = published.certs[index]
    certificate = certificates.load_pem(entry.cert)
    der = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    signed = certificate.tbs_certificate_bytes
    start = der.index(signed)
    bit = data.draw(st.integers(start * 8, (start + len(signed)) * 8 - 1))
    der[bit // 8] ^= 1 << bit % 8
    wrapped = base64.encodebytes(bytes(der))
    entry.cert = b"-----BEGIN CERTIFICATE-----\n" + wrapped + b"-----END CERTIFICATE-----\n"
    with pytest.raises(CertificateError):
        verify_controller_certs(published, GOOD.root, NOW)


def test_a_root_file_of_garbage_would_raise_what_no_caller_expects() -> None:
    assert refusal(GOOD.listed(), b"no certificate") is Reason.MALFORMED


def test_an_exchange_certificate_of_another_curve_would_be_used_to_encrypt() -> None:
    root = certificates.load_pem(GOOD.root)
    foreign = ec.generate_private_key(ec.SECP384R1()).public_key()
    made = certificates.make_exchange("exchange", foreign, Issuer(root, ROOT_KEY), VALID)
    published = controller_certs.publish(GOOD.signing, [certificates.to_pem(made)], [GOOD.middle])
    assert refusal(published) is Reason.BAD_KEY


def test_nodes_would_not_learn_of_a_new_certificate() -> None:
    renewed = controller(signing=Validity(NOW, NOW + DAY))
    assert controller_certs.list_hash(GOOD.listed())
    assert controller_certs.list_hash(GOOD.listed()) == controller_certs.list_hash(GOOD.listed())
    assert controller_certs.list_hash(renewed.listed()) != (
        controller_certs.list_hash(GOOD.listed())
    )


def test_a_tls_client_would_not_find_the_server_s_name() -> None:
    root = Issuer(certificates.load_pem(GOOD.root), ROOT_KEY)
    hosts = ["fleet.example", "192.0.2.1", "2001:db8::1"]
    made = certificates.make_server(hosts, SIGNING_KEY.public_key(), root, VALID)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fleet.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == hosts[1:]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    long_name = certificates.make_server(
        ["a" * 60 + ".example"], SIGNING_KEY.public_key(), root, VALID
    )
    certificates.require_issued_by(long_name, root.certificate)


def test_a_node_s_other_keys_could_not_be_traced_to_its_identity() -> None:
    device = certificates.make_device("node", DEVICE_KEY, VALID)
    exchange = certificates.make_exchange(
        "node exchange", EXCHANGE_KEY.public_key(), Issuer(device, DEVICE_KEY), VALID
    )
    certificates.require_issued_by(device, device)
    certificates.require_issued_by(exchange, device)
    assert device.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for issuer in (certificates.make_device("node", key(96), VALID), exchange):
        with pytest.raises(CertificateError) as caught:
            certificates.require_issued_by(exchange, issuer)
        assert caught.value.reason is Reason.UNTRUSTED


def test_an_onboarding_certificate_could_issue_others() -> None:
    made = certificates.make_onboarding("batch 7", DEVICE_KEY, VALID)
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificates.public_key_of(made) == DEVICE_KEY.public_key()
    assert made.not_valid_before_utc == VALID.not_before
    assert made.not_valid_after_utc == VALID.not_after


def test_a_tpm_s_public_area_would_be_lost() -> None:
    role = certs.CERT_TYPE_DEVICE_ENDORSEMENT_RSA
    entry = certificates.describe(GOOD.signing, role, metadata=b"area")
    assert [(item.type, item.meta_data) for item in entry.meta_data_items] == [
        (certs.Z_CERT_META_DATA_TYPE_TPM2_PUBLIC, b"area")
    ]


KEYS: list[Callable[[], rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey]] = [
    lambda: rsa.generate_private_key(65537, 2048),
    ed25519.Ed25519PrivateKey.generate,
]


@pytest.mark.parametrize(("make", "accepted"), [(KEYS[0], True), (KEYS[1], False)])
def test_a_key_that_envelopes_do_not_know_would_be_handed_on(
    make: Callable[[], rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey], accepted: bool
) -> None:
    private = make()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "controller")])
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), 1, NOW - DAY, NOW + DAY)
    ).sign(private, hashes.SHA256() if accepted else None)
    if accepted:
        assert isinstance(certificates.public_key_of(made), rsa.RSAPublicKey)
        return
    with pytest.raises(CertificateError) as caught:
        certificates.public_key_of(made)
    assert caught.value.reason is Reason.BAD_KEY


class RemoteKey(ec.EllipticCurvePrivateKey):
    """A key somewhere else: it signs and names its public half, and cannot be exported."""

    def __init__(self, there: ec.EllipticCurvePrivateKey) -> None:
        self._there = there

    def sign(self, data: object, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        return self._there.sign(data, signature_algorithm)  # type: ignore[arg-type]

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._there.public_key()

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._there.curve

    @property
    def key_size(self) -> int:
        return self._there.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        raise TypeError("cannot exchange: not asked for here")

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise TypeError("cannot export: the key stays where it is")

    def private_bytes(self, *_: object) -> bytes:
        raise TypeError("cannot export: the key stays where it is")

    def __copy__(self) -> RemoteKey:
        return self

    def __deepcopy__(self, memo: object) -> RemoteKey:
        return self


def test_a_key_in_a_tpm_could_not_make_the_node_s_certificate() -> None:
    remote = RemoteKey(DEVICE_KEY)
    device = certificates.make_device("node", remote, VALID)
    certificates.require_issued_by(device, device)
    exchange = certificates.make_exchange(
        "node exchange", EXCHANGE_KEY.public_key(), Issuer(device, remote), VALID
    )
    certificates.require_issued_by(exchange, device)
