"""Policies learn builds, a node's differences are accepted one by one, and proofs can be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from edgevirt.fleet.nodes.devices import EVIDENCE, Evidence
from tests.parts.command_line import CommandLine
from tests.parts.measured import SoftwareTpm, boot, pack_log
from tests.unit.cli.test_systems import MANIFEST, VERSION

GOT, WANTED = "a" * 64, "b" * 64
DIFFERENCE = {"register": 7, "got": GOT, "expected": [WANTED], "why": "EFI variable SecureBoot"}


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    return str(path)


def tell(cli: CommandLine, node: str, trust: str, **proof: Any) -> None:
    condition = {"type": "Attested", "status": "False", "message": "register 7 differs"}
    status = {"trust": trust, "attestation": proof, "conditions": [condition]}
    cli.patch("EdgeNode", node, {"status": status}, "status")


def test_a_policy_learns_one_build_after_the_other(
    cli: CommandLine, manifest: str, tmp_path: Path
) -> None:
    said = cli.out("attestation", "learn", "default", "--manifest", manifest, "--mode", "Report")
    assert said == (
        f"attestationpolicy/default created (Report): accepts {VERSION} by registers 4, 8, 13\n"
    )
    later = tmp_path / "later.json"
    later.write_text(json.dumps({**MANIFEST, "version": "edgevirt-3-kvm-amd64"}))
    cli.out("attestation", "learn", "default", "--manifest", str(later))
    cli.out("attestation", "learn", "default", "--manifest", manifest)
    spec = cli.get("AttestationPolicy", "default")["spec"]
    assert [entry["name"] for entry in spec["accepted"]] == ["edgevirt-3-kvm-amd64", VERSION]
    assert spec["accepted"][1]["registers"] == MANIFEST["measurements"]
    assert spec["mode"] == "Report"


def test_a_build_that_was_not_measured_teaches_nothing(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**MANIFEST, "measurements": {}}))
    assert "was not measured" in cli.refused(
        "attestation", "learn", "default", "--manifest", str(path)
    )


def test_what_a_node_shows_is_accepted_after_a_look(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "nothing that differs" in cli.refused("attestation", "accept", "alpha", "-y")
    other = {**DIFFERENCE, "register": 0, "why": "firmware version"}
    tell(cli, "alpha", "Untrusted", differences=[DIFFERENCE, other])
    said = cli.refused("attestation", "accept", "alpha", given="n\n")
    assert "register 7: EFI variable SecureBoot" in said
    cli.out("attestation", "accept", "alpha", "--register", "7", "-y")
    assert cli.get("EdgeNode", "alpha")["spec"]["trustedRegisters"] == {"7": [GOT]}
    cli.out("attestation", "accept", "alpha", "-y")
    assert set(cli.get("EdgeNode", "alpha")["spec"]["trustedRegisters"]) == {"0", "7"}


def test_a_proof_is_shown_with_what_differs(cli: CommandLine) -> None:
    cli.node("alpha")
    tell(
        cli, "alpha", "Untrusted", policy="default", registers={"0": WANTED, "7": GOT},
        pinned={"0": WANTED}, differences=[DIFFERENCE], log="57 events",
    )  # fmt: skip
    said = cli.out("attestation", "show", "alpha")
    assert "Untrusted" in said
    assert "register 7 differs" in said
    (line,) = [line for line in said.splitlines() if line.startswith("7 ")]
    assert line.split(maxsplit=2) == [
        "7",
        GOT[:16],
        f"differs from {WANTED[:16]}: EFI variable SecureBoot",
    ]
    assert "Trust:        Untrusted\n" in said


def test_the_events_of_a_proof_can_be_read(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "There are no events" in cli.out("attestation", "show", "alpha", "--events")
    node_id = cli.bind("alpha")
    tpm = SoftwareTpm(boot())
    log = gzip.compress(pack_log(tpm.events))
    values = tuple((n, tpm.registers[n]) for n in range(16))
    evidence = Evidence(0.0, b"quote", b"signature", values, log)
    store = cli.fleet.store
    cli.fleet.do(store.put(EVIDENCE, node_id, evidence))
    said = cli.out("attestation", "show", "alpha", "--events")
    assert "EFI variable SecureBoot" in said
    assert "grub_cmd: linux /boot/vmlinuz version=1" in said


def test_a_node_without_a_security_module_is_not_said_to_have_proved_something(
    cli: CommandLine,
) -> None:
    cli.node("alpha")
    judged = {"trust": "SoftwareKey", "attestation": {"at": "2026-05-01T10:20:30Z"}}
    cli.patch("EdgeNode", "alpha", {"status": judged}, "status")
    lines = cli.out("attestation", "show", "alpha").splitlines()
    assert "Proved:       <none>" in lines
