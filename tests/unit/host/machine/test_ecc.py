"""What the kernel tells of the memory's errors, on a tree as it makes one."""

from __future__ import annotations

from pathlib import Path

from edgevirt.host.machine.ecc import Errors, MemoryController, memory_controllers


def put(where: Path, **files: str) -> None:
    where.mkdir(parents=True)
    for name, text in files.items():
        (where / name).write_text(text + "\n")


def test_errors_are_counted_by_controller_and_by_dimm(tmp_path: Path) -> None:
    put(tmp_path / "mc0", mc_name="Broadwell-DE", ce_count="12", ue_count="1")
    put(tmp_path / "mc0/dimm0", dimm_label="CPU_SrcID#0_DIMM#0", dimm_ce_count="12")
    put(tmp_path / "mc0/rank3", dimm_label="", dimm_ce_count="0", dimm_ue_count="1")
    put(tmp_path / "power", control="auto")
    assert memory_controllers(tmp_path) == (
        MemoryController(
            Errors("Broadwell-DE", 12, 1),
            (Errors("CPU_SrcID#0_DIMM#0", 12, 0), Errors("rank3", 0, 1)),
        ),
    )


def test_memory_without_ecc_has_nothing_to_tell(tmp_path: Path) -> None:
    assert memory_controllers(tmp_path / "mc") == ()
