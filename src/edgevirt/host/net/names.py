"""Where this machine looks names up: resolv.conf(5) and hosts(5)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HOSTS: Final = Path("/etc/hosts")
RESOLV_CONF: Final = Path("/etc/resolv.conf")
_SERVERS_MAX: Final = 3
"""More are not asked (resolv.conf(5), MAXNS)."""
_FIRST_LINES: Final = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


class Names:
    """`directory`: holds the two files that are seen in /etc. `given`: a hosts file, or none.

    They are written where they are and never replaced: another file of that name may not be the
    one that is seen in /etc.
    """

    def __init__(self, directory: Path, given: Path) -> None:
        self._directory = directory
        self._given = given

    def prepare(self) -> None:
        """Where nobody has written a hosts file: our own lines, then those that were given."""
        hosts = self._directory / "hosts"
        if not hosts.exists() or not hosts.stat().st_size:
            given = self._given.read_text(errors="replace") if self._given.is_file() else ""
            _write(hosts, _FIRST_LINES + given)

    def resolve_by(self, servers: Sequence[str], domains: Sequence[str]) -> None:
        """The first ones are asked first."""
        chosen = list(dict.fromkeys(servers))[:_SERVERS_MAX]
        lines = [f"nameserver {server}\n" for server in chosen]
        if domains:
            lines.append(f"search {' '.join(dict.fromkeys(domains))}\n")
        if len(chosen) > 1:
            lines.append("options timeout:2\n")
        _write(self._directory / "resolv.conf", "".join(lines))

    @staticmethod
    def servers() -> tuple[str, ...]:
        """That are asked now."""
        try:
            lines = RESOLV_CONF.read_text().splitlines()
        except OSError:
            return ()
        return tuple(line.split()[1] for line in lines if line.startswith("nameserver "))


def known_address(name: str) -> str:
    """What hosts(5) says of a name, or the name itself if it is an address; else empty."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        lines = HOSTS.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.partition("#")[0].split()
        if name.lower() in (field.lower() for field in fields[1:]):
            return fields[0]
    return ""


def _write(path: Path, text: str) -> None:
    """Nobody finds it empty, who reads it meanwhile."""
    try:
        if path.read_text() == text:
            return
    except OSError:
        pass
    content = text.encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)
