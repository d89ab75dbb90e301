"""What is wrong with a spec is told by the path of the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.image.eci.spec import Disk, EciSpec, SpecError, load


def written(where: Path, text: str) -> Path:
    path = where / "eci.yaml"
    path.write_text(text)
    return path


def test_a_spec_is_read_from_yaml_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    text = """
        root: {file: disk.qcow2}
        kernel: vmlinuz
        cmdline: console=ttyS0
        hardware: {cpus: 2, memory: 512Mi, virtualization: FML, devices: [serial, "usb:camera"]}
    """
    spec, base = load(written(tmp_path, text))
    assert base == tmp_path
    assert spec.root == Disk(file="disk.qcow2")
    assert spec.hardware.devices == ("serial", "usb:camera")
    assert load(tmp_path) == (spec, base)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("root: {file: 1}", "root.file: expected `str`, got `int`"),
        ("root: {fil: a.raw}", "root: object contains unknown field `fil`"),
        ("disks: [{file: a.raw}, 3]", "disks[1]: expected `object`, got `int`"),
        ("cmdline: 'a'", "root: must be there, or kernel, or files"),
        ("root: {file: a.raw}\nfiles: [x]", "files: must not be there beside a root disk"),
        ("root: {file: a.zip}", "root.format: must be there: the file's name doesn't tell"),
        ("root: {file: a, format: exe}", "root.format: must be one of raw"),
        ("root: {file: a.qcow2, chunk: 4Mi}", "root.format: must be raw"),
        ("root: {file: a.raw, chunk: 1}", "root.chunk: must be 1Mi at least"),
        ("root: {file: a.raw, chunk: many}", "root.chunk: must be a quantity"),
        ("root: {file: a.raw, size: 1Gi}", "root.size: must not be there"),
        ("root: {}", "root: must have either a file or pieces"),
        (
            "root: {pieces: [{file: a, offset: 4Mi}, {file: b, offset: 1Mi}]}",
            "root.pieces[1].offset: must be beyond the piece before it",
        ),
        ("root: {pieces: [{file: a, offset: -1}]}", "root.pieces[0].offset: must be 0 to"),
        ("kernel: k\ndisks: [{pieces: [{file: a}]}]", "disks[0]: must be one file"),
        ("root: {file: a.raw}\ninitrd: i", "initrd: must not be there without a kernel"),
        ("root: {file: a.raw}\ncmdline: c", "cmdline: must not be there without a kernel"),
        ('kernel: k\ncmdline: "a\\nb"', "cmdline: must be one line"),
        ("kernel: k\nhardware: {cpus: -1}", "hardware.cpus: must be 0 to 1024"),
        ("kernel: k\nhardware: {devices: ['a b']}", "hardware.devices[0]: must be KIND"),
        ("kernel: k\nhardware: {virtualization: vbox}", "hardware.virtualization: must be one of"),
        ("kernel: k\narchitecture: z80", "architecture: must be one of amd64"),
        ("files: [.]\nenv: [A]", "env[0]: must be NAME=value"),
        (
            "files: [.]\nannotations: {io.edgevirt.eci.cpus: '9'}",
            "annotations.io.edgevirt.eci.cpus: must not be given",
        ),
        ("]", "while parsing"),
        ("a: &a [*a]", "contains unknown field"),
        ("- 1", "expected `object`, got `array`"),
    ],
)
def test_what_is_wrong_is_told_by_its_field(tmp_path: Path, text: str, why: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpecError) as refused:
        load(path)
    assert str(refused.value).startswith(f"cannot read {path}: ")
    assert why in str(refused.value)


def test_files_named_as_edge_containers_names_them_need_no_spec(tmp_path: Path) -> None:
    for name in ("kernel", "initrd", "disk-root-a.qcow2", "disk-0-b.iso", "disk-1-c.raw", "x"):
        (tmp_path / name).touch()
    spec, _ = load(tmp_path)
    assert spec == EciSpec(
        root=Disk(file="disk-root-a.qcow2"),
        disks=(Disk(file="disk-0-b.iso"), Disk(file="disk-1-c.raw")),
        kernel="kernel",
        initrd="initrd",
    )


def test_a_directory_of_other_files_is_a_container_s(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert load(tmp_path) == (EciSpec(files=(".",)), tmp_path)


def test_a_disk_alone_is_the_root_disk(tmp_path: Path) -> None:
    (tmp_path / "a.vmdk").touch()
    assert load(tmp_path / "a.vmdk") == (EciSpec(root=Disk(file="a.vmdk")), tmp_path)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("disk-root-a.raw", "disk-root-b.raw"):
        (tmp_path / "two" / name).touch()
    for source, why in (
        ("note.txt", "neither YAML nor a disk"),
        ("empty", "it is empty"),
        ("two", "2 root disks"),
        ("none", "no such file"),
    ):
        with pytest.raises(SpecError, match=why):
            load(tmp_path / source)
