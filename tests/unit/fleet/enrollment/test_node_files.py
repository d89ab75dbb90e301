"""A new node's files: enough to call home, and private."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edgevirt.fleet.enrollment.node_files import write_node_files

NOW = 1_790_000_000.0


def _write(directory: Path, server: str = "fleet.example:8443") -> None:
    write_node_files(directory, root_pem=b"root", server=server, serial="s-1", now=NOW)


def test_a_node_gets_all_that_it_needs_to_call_home(tmp_path: Path) -> None:
    _write(tmp_path / "n")
    read = {path.name: path.read_bytes() for path in (tmp_path / "n").iterdir()}
    assert read["server"] == b"fleet.example:8443\n"
    assert read["root-certificate.pem"] == b"root"
    assert read["soft_serial"] == b"s-1\n"
    key = serialization.load_pem_private_key(read["onboard.key.pem"], None)
    certificate = x509.load_pem_x509_certificate(read["onboard.cert.pem"])
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc.timestamp() < NOW


def test_the_onboarding_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    _write(tmp_path / "n")
    assert stat.S_IMODE((tmp_path / "n").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "n/onboard.key.pem").stat().st_mode) == 0o600


def test_writing_again_moves_the_server_and_keeps_the_key(tmp_path: Path) -> None:
    _write(tmp_path / "n")
    key = (tmp_path / "n/onboard.key.pem").read_bytes()
    _write(tmp_path / "n", "other.example:443")
    assert (tmp_path / "n/onboard.key.pem").read_bytes() == key
    assert (tmp_path / "n/server").read_bytes() == b"other.example:443\n"
