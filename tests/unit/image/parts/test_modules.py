"""Which kernel modules an image has."""

from __future__ import annotations

from edgevirt.image.parts.modules import choose, closure, parse_dependencies

DEPENDENCIES = """\
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/drivers/gpu/drm/drm.ko:
kernel/drivers/net/dummy.ko:
"""


def test_what_a_module_needs_comes_along() -> None:
    needs = parse_dependencies(DEPENDENCIES)
    assert choose(needs, ["fs/ext4/*"], []) == (
        "kernel/fs/ext4/ext4.ko",
        "kernel/fs/jbd2/jbd2.ko",
        "kernel/lib/crc16.ko",
    )


def test_what_is_left_out_comes_when_it_is_needed() -> None:
    needs = {"kernel/a.ko": ("kernel/b.ko",), "kernel/b.ko": ()}
    assert choose(needs, ["*"], ["b.ko"]) == ("kernel/a.ko", "kernel/b.ko")


def test_modules_that_need_each_other_end() -> None:
    assert closure(["a"], {"a": ("b",), "b": ("a",)}) == ("a", "b")
