"""The bill of materials names what is shipped, by version, and nothing that only built it."""

from __future__ import annotations

from edgevirt.image.packages.lock import Package
from edgevirt.image.packages.wheels import choose, pins
from edgevirt.image.release.sbom import describe

LOCK = """\
cffi==2.1.1 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
httpx==0.28.1 \\
    --hash=sha256:cc
"""


def package(group: str, name: str) -> Package:
    return Package(group, name, "1.0-1", "amd64", "debian", 1, "ab" * 32, f"pool/{name}.deb")


def test_packages_and_libraries_are_listed_and_tools_are_not() -> None:
    packages = [package("root", "runc"), package("tools", "mtools")]
    found = describe("edgevirt-1", 1, packages, {"httpx": "0.28.1"})
    rows = found["packages"]
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == ["edgevirt", "runc", "python-httpx"]
    assert rows[1]["checksums"][0]["checksumValue"] == "ab" * 32


def test_only_the_node_s_libraries_are_taken_from_the_lock_with_their_hashes() -> None:
    assert choose(LOCK, ["cffi"]) == LOCK[: LOCK.index("httpx")]
    assert pins(LOCK) == {"cffi": "2.1.1", "httpx": "0.28.1"}
