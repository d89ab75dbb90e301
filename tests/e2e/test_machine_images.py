"""Images that are machines: what they bring is used, and what they must not be is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine_apps import add_disk, add_machine, boot_sector, says
from tests.e2e.system import NODE, System, eventually, whole_system
from tests.worlds.guest import unikernel

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("images")) as made:
        url = f"docker://registry.local:{made.registry_port}"
        made.fleet.create("Datastore", "local-registry", {"type": "OCIRegistry", "url": url})
        yield made


def package(system: System, name: str, text: str, *words: str) -> None:
    """An Edge Container Image of the unikernel and a disk, built and pushed as people do it."""
    source = system.directory / f"{name}-source"
    source.mkdir()
    (source / "kernel").write_bytes(unikernel())
    (source / "data.raw").write_bytes(boot_sector("a disk"))
    (source / "eci.yaml").write_text(text)
    publish(system, name, source, *words)
    system.add_image(name, f"{name}:1")


def publish(system: System, name: str, source: Path, *words: str) -> None:
    layout = str(system.directory / f"{name}-layout")
    system.edgevirt("eci", "build", str(source), "-o", layout, *words)
    system.edgevirt("eci", "push", layout, f"{system.registry.host}/{name}:1")


def make_example(system: System, name: str) -> Path:
    """A copy of its directory, with what its Makefile makes."""
    made = system.directory / "examples" / name
    shutil.copytree(EXAMPLES / name, made)
    _run("make", "-s", "-C", made)
    return made


def run_example(system: System, name: str) -> None:
    system.edgevirt("apply", "-f", str(EXAMPLES / name / "app.yaml"))
    system.fleet.create("AppInstance", name, {"app": name, "edgeNode": NODE})


def why(system: System, name: str) -> str:
    """What is told of an app that does not run."""
    found = eventually(f"{name} is in trouble", lambda: system.troubles(name), 60, 0.2)
    return str(found[0]["message"])


def test_an_image_brings_its_own_kernel_command_line_and_disks(system: System) -> None:
    text = "kernel: kernel\ncmdline: say packaged\ndisks: [{file: data.raw}]\nhardware: {cpus: 1}\n"
    package(system, "packaged", text)
    add_machine(system, "packaged", "packaged", type="VM")
    says(system, "packaged", "packaged")
    (pid,) = system.pids("qemu-system-x86")
    opened = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    assert any("/blobs/" in path or "/layers/" in path for path in opened), "its disk is attached"
    system.remove_app("packaged")


def test_the_catalog_s_unikernel_runs_as_its_page_says(system: System) -> None:
    publish(system, "unikernel", make_example(system, "unikernel"))
    run_example(system, "unikernel")
    says(system, "unikernel", "hello from a unikernel")
    system.remove_app("unikernel")


def test_the_catalog_s_old_machine_boots_from_its_floppy_disk(system: System) -> None:
    made = make_example(system, "legacy")
    publish(system, "floppy", made / "floppy.img")
    publish(system, "empty-disk", made / "disk.img")
    run_example(system, "legacy")
    says(system, "legacy", "booted from a floppy disk")
    system.remove_app("legacy")


def test_an_app_that_has_not_what_its_image_wants_is_told_so(system: System) -> None:
    package(system, "greedy", "kernel: kernel\nhardware: {cpus: 64}\n")
    add_machine(system, "greedy", "greedy", type="VM")
    assert "its image wants 64 CPUs, the app has 1" in why(system, "greedy")
    system.remove_app("greedy")


def test_a_machine_for_another_processor_is_refused(system: System) -> None:
    package(system, "foreign", "kernel: kernel\n", "--arch", "arm64")
    add_machine(system, "foreign", "foreign", type="VM")
    assert "arm64" in why(system, "foreign")
    system.remove_app("foreign")


def test_disks_that_lead_to_files_of_the_node_or_are_broken_are_refused(system: System) -> None:
    paths = {name: system.directory / name for name in ("backed", "apart", "elsewhere", "cut")}
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    _run(*create, "-u", "-F", "raw", "-b", "/etc/shadow", paths["backed"], "1M")
    outside = system.directory / "outside.data"
    _run(*create, "-o", f"data_file={outside}", paths["apart"], "1M")
    paths["elsewhere"].write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        'createType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n'
    )
    _run(*create, paths["cut"], "1M")
    paths["cut"].write_bytes(paths["cut"].read_bytes()[:65536] + b"\xff" * 400_000)
    wanted: dict[str, tuple[str, str]] = {
        "backed": ("Qcow2", "it names a backing file"),
        "apart": ("Qcow2", "it names a data file"),
        "elsewhere": ("VMDK", "it is a description that names other files"),
        "cut": ("Qcow2", "refused: "),
    }
    for name, (format, _) in wanted.items():
        add_disk(system, name, paths[name], format)
        add_machine(system, name, name, type="VM")
    for name, (_, reason) in wanted.items():
        assert reason in why(system, name)
        system.remove_app(name)


def _run(*command: Any) -> None:
    subprocess.run(command, check=True)
