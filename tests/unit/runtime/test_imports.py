"""What is left out of an import stays out, and is there for whoever needs it later."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgevirt.runtime.imports import without


def test_a_library_finds_names_where_there_is_nothing_and_the_next_finds_the_real_ones() -> None:
    sys.modules.pop("colorsys", None)
    with without("colorsys"):
        from colorsys import no_such_name  # type: ignore[attr-defined]

        assert no_such_name(1, more=2) is not None
    import colorsys

    assert colorsys.rgb_to_hls(0, 0, 0) == (0, 0, 0)


def test_what_is_loaded_already_stays_as_it_is() -> None:
    with without("json"):
        import json

        assert json.loads("[]") == []


def test_nothing_is_left_behind_when_the_library_cannot_be_loaded() -> None:
    sys.modules.pop("colorsys", None)
    with pytest.raises(ImportError), without("colorsys"):
        raise ImportError("no such library")
    assert "colorsys" not in sys.modules


_UNUSED = (
    *("unittest", "multiprocessing", "argparse", "pyroute2.netlink.rtnl.tcmsg"),
    *("google.protobuf.internal.python_message", "google.protobuf.text_format"),
)


def loaded(expression: str) -> str:
    """What it says in a process that has loaded all services."""
    code = (
        "import sys\n"
        "from edgevirt.node.supervisor.start import load_all\n"
        f"load_all()\nprint({expression})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_node_s_services_load_nothing_that_they_never_use() -> None:
    """Each of these costs the start of a node time, and its processes memory."""
    assert loaded(f"[name for name in {_UNUSED!r} if name in sys.modules]") == "[]"


def test_no_value_of_theirs_is_a_class_that_is_compiled_when_it_is_loaded() -> None:
    """A dataclass takes thirty times as long as a Struct."""
    ours = "m for n, m in list(sys.modules.items()) if n.startswith('edgevirt.')"
    classes = f"{{c for m in ({ours}) for c in vars(m).values() if isinstance(c, type)}}"
    assert loaded(f"[c for c in {classes} if '__dataclass_fields__' in vars(c)]") == "[]"
