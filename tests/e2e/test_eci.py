"""Edge Container Images with real parts: the command, Debian's registry, skopeo, openssl."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevirt.image.eci.contained import GUEST
from edgevirt.image.parts.guest import publish
from edgevirt.wire import cosign
from tests.e2e.workshop import EMULATED, MI, Workshop, make_machine, open_workshop
from tests.parts.loopback import free_port
from tests.worlds.contained import guest_files
from tests.worlds.content import make_root

pytestmark = pytest.mark.e2e


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with open_workshop(tmp_path) as made:
        yield made


def test_an_image_goes_to_a_stock_registry_and_comes_back_the_same(workshop: Workshop) -> None:
    digest = workshop.eci("build", make_machine(workshop.where), "-o", "out")
    name = workshop.name("apps/machine:1")
    assert workshop.eci("push", "out", name) == digest
    assert workshop.eci("pull", name, "-o", "back") == digest
    assert workshop.eci("pull", f"{name.removesuffix(':1')}@{digest}", "-o", "again") == digest
    there, here = workshop.where / "out/blobs/sha256", workshop.where / "back/blobs/sha256"
    assert {p.name: p.read_bytes() for p in here.iterdir()} == {
        p.name: p.read_bytes() for p in there.iterdir()
    }
    assert workshop.eci("inspect", name) == workshop.eci("inspect", "out")
    told = json.loads(workshop.eci("inspect", name, "-o", "json"))
    assert (told["cpus"], told["memory"], told["diskSize"]) == (2, 256 * MI, 6 * MI + 3)


def test_a_container_of_a_directory_is_an_image_as_any_other(workshop: Workshop) -> None:
    (workshop.where / "root/bin").mkdir(parents=True)
    (workshop.where / "root/bin/app").write_text("#!/bin/sh\n")
    digest = workshop.eci("build", "root", "-o", "out", "--entrypoint", "/bin/app -v")
    workshop.eci("push", "out", workshop.name("apps/box:1"))
    config = json.loads(workshop.skopeo("inspect", "--config", "oci:out:latest"))
    assert config["config"]["Entrypoint"] == ["/bin/app", "-v"]
    assert f"digest          {digest}" in workshop.eci("inspect", workshop.name("apps/box:1"))


def test_who_has_not_logged_in_is_told_so(workshop: Workshop) -> None:
    workshop.eci("build", make_machine(workshop.where), "-o", "out")
    (workshop.where / "config.json").write_text("{}")
    assert "registry answered 401" in workshop.refused("push", "out", workshop.name("a:1"))
    assert "registry answered 401" in workshop.refused("pull", workshop.name("a:1"), "-o", "b")


def test_an_image_that_is_not_there_is_told_at_once(workshop: Workshop) -> None:
    assert "registry answered 404" in workshop.refused("pull", workshop.name("a:1"), "-o", "b")
    assert "not REPOSITORY" in workshop.refused("pull", workshop.name("../../x"), "-o", "b")


def test_bytes_that_the_registry_changed_are_not_taken(workshop: Workshop) -> None:
    workshop.eci("build", make_machine(workshop.where), "-o", "out")
    workshop.eci("push", "out", workshop.name("apps/machine:1"))
    kept = workshop.registry.storage / "docker/registry/v2/blobs/sha256"
    biggest = max(kept.glob("*/*/data"), key=lambda path: path.stat().st_size)
    data = bytearray(biggest.read_bytes())
    data[5] ^= 1
    biggest.write_bytes(data)
    said = workshop.refused("pull", workshop.name("apps/machine:1"), "-o", "back")
    assert "serves other bytes" in said
    assert not (workshop.where / "back/index.json").exists()


def test_an_image_for_another_machine_is_pulled_when_it_is_asked_for(workshop: Workshop) -> None:
    digest = workshop.eci("build", make_machine(workshop.where), "-o", "out", "--arch", "arm64")
    name = workshop.name("apps/machine:arm")
    workshop.eci("push", "out", name)
    assert workshop.eci("pull", name, "-o", "back", "--arch", "arm64") == digest
    assert "for linux/arm64" in workshop.eci("inspect", name)


# -- signatures -----------------------------------------------------------------------------------


def test_a_signature_is_proven_by_its_key_alone_and_by_openssl(workshop: Workshop) -> None:
    digest = workshop.eci("build", make_machine(workshop.where), "-o", "out")
    name = workshop.name("apps/machine:1")
    workshop.eci("push", "out", name)
    for key in ("good", "other"):
        workshop.eci("make-key", key)
    assert f"nobody signed {digest}" in workshop.refused("verify", name, "--key", "good.pub")
    assert workshop.eci("sign", name, "--key", "good.key") == digest
    signed = f"{digest} signed by good.pub"
    assert workshop.eci("verify", name, "--key", "other.pub", "--key", "good.pub") == signed
    assert "none of its 1 signatures" in workshop.refused("verify", name, "--key", "other.pub")
    _prove_with_openssl(workshop, digest)


def _prove_with_openssl(workshop: Workshop, digest: str) -> None:
    tag = workshop.name(f"apps/machine:{digest.replace(':', '-')}.sig")
    workshop.skopeo("copy", "--src-tls-verify=false", f"docker://{tag}", "dir:signature")
    manifest = json.loads((workshop.where / "signature/manifest.json").read_text())
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    (workshop.where / "signature.bin").write_bytes(signature)
    payload = workshop.where / "signature" / layer["digest"].removeprefix("sha256:")
    command = ["openssl", "dgst", "-sha256", "-verify", "good.pub", "-signature", "signature.bin"]
    done = subprocess.run(
        [*command, str(payload)], cwd=workshop.where, capture_output=True, text=True, check=False
    )
    assert done.stdout == "Verified OK\n", done.stderr


def test_several_may_sign_and_each_does_once(workshop: Workshop) -> None:
    digest = workshop.eci("build", make_machine(workshop.where), "-o", "out")
    name = workshop.name("apps/machine:1")
    workshop.eci("push", "out", name)
    (workshop.where / "password").write_text("sesame\n")
    workshop.eci("make-key", "one")
    workshop.eci("make-key", "two", "--password-file", "password")
    for words in (("one.key",), ("two.key", "--password-file", "password"), ("one.key",)):
        workshop.eci("sign", name, "--key", *words)
    for key in ("one.pub", "two.pub"):
        assert workshop.eci("verify", name, "--key", key) == f"{digest} signed by {key}"
    tag = workshop.name(f"apps/machine:{cosign.tag_of(digest)}")  # type: ignore[arg-type]
    raw = workshop.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{tag}")
    assert len(json.loads(raw)["layers"]) == 2
    assert "needs a password" in workshop.refused("sign", name, "--key", "two.key")
    assert (workshop.where / "one.key").stat().st_mode & 0o077 == 0


def test_a_signature_of_another_image_proves_nothing(workshop: Workshop) -> None:
    """Its manifest copied under the tag that belongs to another."""
    workshop.eci("make-key", "good")
    workshop.eci("build", make_machine(workshop.where), "-o", "out")
    workshop.eci("push", "out", workshop.name("apps/good:1"))
    good = workshop.eci("sign", workshop.name("apps/good:1"), "--key", "good.key")
    (workshop.where / "evil.raw").write_bytes(b"evil")
    evil = workshop.eci("build", "evil.raw", "-o", "evil")
    workshop.eci("push", "evil", workshop.name("apps/evil:1"))
    source = workshop.name(f"apps/good:{good.replace(':', '-')}.sig")
    target = workshop.name(f"apps/evil:{evil.replace(':', '-')}.sig")
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    workshop.skopeo("copy", *insecure, f"docker://{source}", f"docker://{target}")
    said = workshop.refused("verify", workshop.name("apps/evil:1"), "--key", "good.pub")
    assert "none of its 1 signatures is by a given key" in said


# -- running --------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(workshop: Workshop, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgevirt", "eci", "run", *words],
        cwd=workshop.where,
        env={**os.environ, "DOCKER_CONFIG": str(workshop.where)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def fetched(url: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.root
@pytest.mark.timeout(400)
@pytest.mark.parametrize("virtualization", ["None", "PV"])
def test_a_container_runs_and_is_reached_and_leaves_nothing(
    workshop: Workshop, virtualization: str
) -> None:
    publish(guest_files(), GUEST)
    root = make_root(workshop.where / "root")
    (root / "bin/httpd").symlink_to("busybox")
    (root / "www").mkdir()
    (root / "www/index.html").write_text("hello from within")
    entrypoint = "/bin/httpd -f -p 80 -h /www"
    workshop.eci("build", "root", "-o", "out", "--entrypoint", entrypoint)
    workshop.eci("push", "out", workshop.name("apps/web:1"))
    port = free_port()
    before = set(os.listdir("/var/tmp"))
    options = ("-p", f"{port}:80", "--virtualization", virtualization)
    with running(workshop, workshop.name("apps/web:1"), *options) as process:
        assert fetched(f"http://127.0.0.1:{port}/", EMULATED) == "hello from within"
        process.terminate()
        process.wait(timeout=60)
    assert "eci-run-" not in Path("/proc/self/mounts").read_text()
    assert not [name for name in set(os.listdir("/var/tmp")) - before if "eci-run" in name]


@pytest.mark.root
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("options", "interfaces"),
    [
        (("--virtualization", "None"), "1"),  # its own loopback, and no more
        ((), "2"),  # as an App that says nothing: a machine, which has a card
    ],
)
def test_a_container_s_words_and_exit_status_are_the_command_s(
    workshop: Workshop, options: tuple[str, ...], interfaces: str
) -> None:
    publish(guest_files(), GUEST)
    make_root(workshop.where / "root")
    (workshop.where / "eci.yaml").write_text(
        "files: [root]\nentrypoint: [/bin/sh, -c]\n"
        'command: ["echo $GREETING; cat /sys/class/net/*/operstate | wc -l; exit 3"]\n'
    )
    code, said, _ = workshop.run("run", "eci.yaml", "-e", "GREETING=hello you", *options)
    assert (code, said.split("\n")) == (3, ["hello you", interfaces])


def test_a_machine_boots_from_its_disk_and_its_console_is_the_terminal(workshop: Workshop) -> None:
    """A sector that writes to the serial port and ends the machine; the rest of the disk is far."""
    (workshop.where / "boot.img").write_bytes(speaking_sector(b"hello from the disk\n"))
    (workshop.where / "far.img").write_bytes(b"x" * 512)
    (workshop.where / "eci.yaml").write_text(
        "root: {pieces: [{file: boot.img}, {file: far.img, offset: 1Mi}], size: 4Mi}\n"
        "hardware: {memory: 64Mi, virtualization: Legacy}\n"
    )
    workshop.eci("build", ".", "-o", "out")
    with running(workshop, "out") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = ""
        while "hello from the disk" not in said:
            said += process.stdout.read(1)
            assert len(said) < 100_000
        process.stdin.write("\x01x")  # Ctrl-A X
        process.stdin.flush()
        assert process.wait(timeout=30) == 0


def speaking_sector(text: bytes) -> bytes:
    """A boot sector (16 bits) that sends `text` to COM1 and halts."""
    # mov si, text; mov dx, 0x3f8; lodsb; test al, al; jz halt; out dx, al; jmp; halt: hlt; jmp
    code = bytes.fromhex("31c08ed8be207cbaf803ac84c0740aeeebf8") + b"\x90" * 10
    code = code[:18] + b"\x90" * 6 + bytes.fromhex("f4ebfd")
    return (code.ljust(0x20, b"\x90") + text + b"\0").ljust(510, b"\0") + b"\x55\xaa"
