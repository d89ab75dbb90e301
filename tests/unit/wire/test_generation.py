"""When a build would ship message modules that do not match the definitions."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("grpc_tools", reason="the message compiler is a build requirement")

ROOT = Path(__file__).parents[3]


def load_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = load_hook()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    source = ROOT / HOOK.PROTO
    for name in ("auth", "evecommon"):
        shutil.copytree(source / name, tmp_path / HOOK.PROTO / name)
    assert HOOK.generate(tmp_path) is True
    return tmp_path


def generated(checkout: Path) -> list[str]:
    folder = checkout / HOOK.GENERATED
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*_pb2.py*"))


def test_an_unchanged_checkout_would_be_compiled_again(checkout: Path) -> None:
    assert HOOK.generate(checkout) is False


def test_a_changed_definition_would_keep_its_old_module(checkout: Path) -> None:
    proto = checkout / HOOK.PROTO / "auth/auth.proto"
    proto.write_text(proto.read_text() + "message Added { string text = 1; }\n")
    assert HOOK.generate(checkout) is True
    assert "class Added" in (checkout / HOOK.GENERATED / "auth/auth_pb2.pyi").read_text()


def test_a_removed_definition_would_leave_its_module_behind(checkout: Path) -> None:
    assert "auth/auth_pb2.py" in generated(checkout)
    (checkout / HOOK.PROTO / "auth/auth.proto").unlink()
    assert HOOK.generate(checkout) is True
    assert "auth/auth_pb2.py" not in generated(checkout)
    assert "evecommon/netcmn_pb2.pyi" in generated(checkout)


def test_a_broken_definition_would_replace_the_good_modules(checkout: Path) -> None:
    before = generated(checkout)
    (checkout / HOOK.PROTO / "auth/auth.proto").write_text("not a definition")
    with pytest.raises(SystemExit, match="cannot generate"):
        HOOK.generate(checkout)
    assert generated(checkout) == before


def test_generated_modules_would_import_each_other_by_names_that_do_not_exist(
    checkout: Path,
) -> None:
    for name in generated(checkout):
        text = (checkout / HOOK.GENERATED / name).read_text()
        assert "\nfrom evecommon" not in text
        assert "\nfrom auth" not in text
