"""What the image builder says of a build: its `manifest.json`, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgevirt.cli.session import fail

_MAX_BYTES: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ROOT: Final = "root"


@dataclass(frozen=True)
class Build:
    """`file`, `size`, `sha256`: of the root image. `measurements`: register → hex alternatives."""

    version: str
    architecture: str
    file: str
    size: int
    sha256: str
    measurements: Mapping[str, list[str]]


def read_build(path: Path) -> Build:
    """Raises Failure, in words, for what is no manifest of a build."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            fail(f"cannot use {path}: it is too large for a manifest")
        body = json.loads(path.read_bytes())
        root = next(a for a in body["artifacts"] if a["kind"] == _ROOT)
        build = Build(
            version=_text(body["version"]),
            architecture=_text(body["arch"]),
            file=_text(root["name"]),
            size=int(root["size"]),
            sha256=_text(root["sha256"]),
            measurements=_registers(body.get("measurements") or {}),
        )
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}", "`edgevirt image build` writes it")
    except StopIteration:
        fail(f"cannot use {path}: it names no root image")
    except (ValueError, KeyError, TypeError, AttributeError):
        fail(f"cannot use {path}: it is no manifest of a build")
    if not _DIGEST.fullmatch(build.sha256):
        fail(f"cannot use {path}: the digest of {build.file} is no SHA-256")
    return build


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _registers(given: Mapping[str, Any]) -> dict[str, list[str]]:
    """Each value once: a slot's name changes the registers of the boot loader alone."""
    return {
        str(int(number)): list(dict.fromkeys(_text(value) for value in values))
        for number, values in given.items()
    }
