"""Bringing nodes to a version: from a build to what each of them says of its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgevirt.wire import envelope
from edgevirt.wire.messages import config
from tests.parts.command_line import CommandLine

VERSION = "edgevirt-2-kvm-amd64"
MANIFEST: dict[str, Any] = {
    "version": VERSION,
    "variant": "kvm",
    "arch": "amd64",
    "artifacts": [
        {"name": "live.raw", "kind": "live", "size": 1, "sha256": "0" * 64},
        {"name": "root.squashfs", "kind": "root", "size": 123_456, "sha256": "a" * 64},
    ],
    "measurements": {"4": ["b" * 64], "8": ["c" * 64, "d" * 64], "13": ["e" * 64]},
}


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    return str(path)


def with_image(cli: CommandLine, manifest: str) -> None:
    cli.create("Datastore", "files", {"type": "HTTPS", "url": "https://files.example"})
    cli.out("os", "create", "os-2", "--manifest", manifest, "--datastore", "files")


def tell(cli: CommandLine, node: str, step: str, phase: str, since: str = "", **more: Any) -> None:
    """As if the node had reported."""
    status = {"version": VERSION, "step": step, "phase": phase, **more}
    if since:
        status["since"] = since
    cli.patch("EdgeNode", node, {"status": {"os": status}}, "status")


def test_a_build_becomes_an_os_image(cli: CommandLine, manifest: str) -> None:
    cli.create("Datastore", "files", {"type": "HTTPS", "url": "https://files.example"})
    words = ("os", "create", "os-2", "--manifest", manifest, "--datastore", "files")
    said = cli.out(*words, "--reference", "os/root.squashfs")
    assert said == (f"osimage/os-2 created: version {VERSION}, measured registers: 4, 8, 13\n")
    spec = cli.get("OSImage", "os-2")["spec"]
    assert (spec["version"], spec["sha256"], spec["maxSize"]) == (VERSION, "a" * 64, 123_456)
    assert spec["reference"] == "os/root.squashfs"
    assert spec["measurements"] == MANIFEST["measurements"]
    assert VERSION in cli.out("get", "osimages")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{}", "no manifest of a build"),
        ("junk", "no manifest of a build"),
        ("[]", "no manifest of a build"),
        (json.dumps({**MANIFEST, "artifacts": []}), "names no root image"),
        (json.dumps({**MANIFEST, "version": 3}), "no manifest of a build"),
    ],
)
def test_what_is_no_manifest_is_refused(
    cli: CommandLine, tmp_path: Path, content: str, why: str
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    words = ("os", "create", "os-2", "--manifest", str(path), "--datastore", "files")
    assert why in cli.refused(*words)
    path.unlink()
    assert "No such file" in cli.refused(*words)


def test_nodes_are_asked_to_update(cli: CommandLine, manifest: str) -> None:
    with_image(cli, manifest)
    cli.node("alpha")
    cli.node("beta")
    said = cli.out("os", "update", "alpha", "node/beta", "--to", "os-2")
    assert said == f"edgenode/alpha: updates to {VERSION}\nedgenode/beta: updates to {VERSION}\n"
    assert cli.get("EdgeNode", "beta")["spec"]["os"]["image"] == "os-2"
    assert "not found" in cli.refused("os", "update", "alpha", "--to", "os-3")
    cli.out("os", "update", "alpha", "--to", "os-2", "--stage")
    assert cli.get("EdgeNode", "alpha")["spec"]["os"]["activate"] is False


def test_each_step_is_told_until_all_run_it(cli: CommandLine, manifest: str) -> None:
    with_image(cli, manifest)
    cli.node("alpha")
    with cli.running("os", "update", "alpha", "--to", "os-2", "--wait") as update:
        update.line("updates to")
        tell(cli, "alpha", "Downloading", "downloading 40%")
        assert update.line("downloading") == "  alpha  downloading 40%"
        tell(cli, "alpha", "Updated", f"runs {VERSION}")
        update.line(f"runs {VERSION}")
        assert update._process.wait(20) == 0


def test_a_fall_back_ends_the_wait_with_its_reason(cli: CommandLine, manifest: str) -> None:
    with_image(cli, manifest)
    cli.node("alpha")
    why = "cannot run it: kernel panic; fell back"
    tell(cli, "alpha", "FellBack", why, since="2026-01-01T00:00:00Z")
    said = cli.refused("os", "update", "alpha", "--to", "os-2", "--wait")
    assert f"alpha: {why}" in said
    assert "edgevirt os retry alpha" in said


def test_a_retry_waits_for_news(cli: CommandLine, manifest: str) -> None:
    with_image(cli, manifest)
    cli.node("alpha")
    assert "it has no spec.os" in cli.refused("os", "retry", "alpha")
    cli.out("os", "update", "alpha", "--to", "os-2")
    tell(cli, "alpha", "FellBack", "kernel panic", since="2026-01-01T00:00:00Z")
    with cli.running("os", "retry", "alpha", "--wait") as retry:
        retry.line("another try asked for (retryCounter 1)")
        tell(cli, "alpha", "FellBack", "kernel panic again", since="2026-01-01T00:10:00Z")
        assert retry._process.wait(20) == 1


def test_a_wait_ends(cli: CommandLine, manifest: str) -> None:
    with_image(cli, manifest)
    cli.node("alpha")
    words = ("os", "update", "alpha", "--to", "os-2", "--wait", "--timeout", "0s")
    assert "cannot wait longer for alpha" in cli.refused(*words)


def test_going_back_is_asked_for_after_a_question(cli: CommandLine, manifest: str) -> None:
    with_image(cli, manifest)
    cli.node("alpha")
    cli.out("os", "update", "alpha", "--to", "os-2")
    assert "nothing was changed" in cli.refused("os", "fallback", "alpha", given="n\n")
    cli.out("os", "fallback", "alpha", "-y")
    assert cli.get("EdgeNode", "alpha")["spec"]["os"]["fallbackCounter"] == 1


def test_a_node_s_bootstrap_config_is_written(cli: CommandLine, tmp_path: Path) -> None:
    cli.node("alpha")
    output = tmp_path / "bootstrap-config.pb"
    said = cli.out("fleet", "bootstrap-config", "alpha", "-o", str(output))
    assert said == f"bootstrap config of edgenode/alpha written to {output}\n"
    message = config.BootstrapConfig.FromString(output.read_bytes())
    opened = envelope.open_envelope(message.signed_config.SerializeToString(), 100_000)
    ports = config.EdgeDevConfig.FromString(opened.payload).systemAdapterList
    assert [port.name for port in ports] == ["eth0"]
    assert "not found" in cli.refused("fleet", "bootstrap-config", "beta", "-o", str(output))


def test_a_node_config_may_hold_a_bootstrap_config(cli: CommandLine, tmp_path: Path) -> None:
    cli.node("alpha")
    data = cli.fleet.kubeconfig.parent
    words = ("--data", str(data), "--server", "fleet.example:8443", "--serial", "s")
    where = tmp_path / "config"
    cli.out("fleet", "node-config", str(where), *words, "--bootstrap", "alpha")
    names = {path.name for path in where.iterdir()}
    assert {"server", "root-certificate.pem", "soft_serial", "bootstrap-config.pb"} <= names
