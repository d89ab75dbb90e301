"""DHCP and DNS for guests: one dnsmasq per bridge, bound to it alone.

Each dnsmasq leaves the service that started it (it becomes a daemon), so that a restarted service
finds it at work. It runs as a user of its own with three capabilities, and can gain no more.
"""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from edgevirt.host.net.canonical import dns_name, interface_name, mac_address
from edgevirt.host.net.filter import METADATA_SERVER
from edgevirt.host.net.spec import NameServerSpec

USER = "dnsmasq"
"""Debian's dnsmasq-base makes it."""
RESOLV_CONF = Path("/etc/resolv.conf")
_CAPABILITIES = "-all,+net_admin,+net_bind_service,+net_raw"
_LEASE = "60m"
_START_TIMEOUT = 10.0
_STOP_TIMEOUT_MS = 2000
_MOST_LEASED = 1 << 20
"""Bytes: some ten thousand leases."""


class NameServerError(Exception):
    """«cannot start the name server of bn1: why»."""


class NameServers:
    """`directory`: a folder for each bridge with dnsmasq's files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told: set[str] = set()
        """Bridges whose dnsmasq has heard of its files from this process: another one may have died
        between the writing and the telling.
        """

    def prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)

    def present(self) -> set[str]:
        """Bridges of which anything is there."""
        return {entry.name for entry in self._directory.iterdir()}

    def ensure(self, spec: NameServerSpec) -> int:
        """The process id of a dnsmasq that does what `spec` says.

        Changed names and leases are told to the one that runs; anything else starts a new one, and
        so does an address that another guest had: dnsmasq keeps it for that one as long as its
        lease lasts, an hour, and gives the new one none.
        """
        folder = self._directory / spec.bridge
        (folder / "state").mkdir(parents=True, exist_ok=True)
        told = _write(folder / "hosts", hosts(spec)) | _write(folder / "leases", leases(spec))
        changed = _write(folder / "dnsmasq.conf", configuration(spec, folder))
        pid = _running(folder)
        moved = _moved(folder, spec)
        if pid is not None and (changed or moved):
            _stop(pid)
            pid = None
        if moved:  # who has the others asks for what is his, and gets it again
            (folder / "state" / "leases").unlink(missing_ok=True)
        if pid is None:
            pid = _start(spec.bridge, folder)
        elif told or spec.bridge not in self._told:
            os.kill(pid, signal.SIGHUP)
        self._told.add(spec.bridge)
        return pid

    def remove(self, bridge: str) -> None:
        """Also when there is none."""
        folder = self._directory / bridge
        self._told.discard(bridge)
        pid = _running(folder)
        if pid is not None:
            _stop(pid)
        shutil.rmtree(folder, ignore_errors=True)


def configuration(spec: NameServerSpec, folder: Path) -> str:
    """dnsmasq.conf(5). Names and leases are in files of their own: they change while it runs."""
    subnet = IPv4Network(spec.subnet)
    lines = [
        f"interface={interface_name(spec.bridge)}",
        "except-interface=lo",
        "bind-interfaces",
        f"listen-address={IPv4Address(spec.gateway)}",
        f"pid-file={folder}/state/pid",
        f"dhcp-leasefile={folder}/state/leases",
        "log-facility=/dev/null",
        "no-hosts",
        f"addn-hosts={folder}/hosts",
        f"dhcp-hostsfile={folder}/leases",
        "domain-needed",
        "bogus-priv",
        "dhcp-authoritative",
        "no-ping",
        f"dhcp-range={subnet.network_address},static,{subnet.netmask},{_LEASE}",
        f"dhcp-option=option:mtu,{int(spec.mtu)}",
        f"dhcp-option=option:dns-server,{IPv4Address(spec.gateway)}",
        *_routes(spec),
        *_upstream(spec),
    ]
    if spec.domain:
        domain = dns_name(spec.domain)
        lines += [f"domain={domain}", f"local=/{domain}/", "expand-hosts"]
    if spec.ntp:
        servers = ",".join(str(IPv4Address(server)) for server in spec.ntp)
        lines.append(f"dhcp-option=option:ntp-server,{servers}")
    return "\n".join(lines) + "\n"


def hosts(spec: NameServerSpec) -> str:
    """hosts(5)."""
    pairs = [(str(IPv4Address(ip)), dns_name(name)) for name, ips in spec.names for ip in ips]
    return "".join(f"{ip} {name}\n" for ip, name in sorted(pairs))


def leases(spec: NameServerSpec) -> str:
    """Lines of `--dhcp-host`: who else asks gets no address."""
    entries = sorted((IPv4Address(k.ip), mac_address(k.mac), dns_name(k.host)) for k in spec.leases)
    return "".join(f"{mac},{ip},{host},{_LEASE}\n" for ip, mac, host in entries)


def _routes(spec: NameServerSpec) -> list[str]:
    """Clients that take option 121 ignore the router of option 3: both say the same."""
    gateway = IPv4Address(spec.gateway)
    metadata = f"{METADATA_SERVER}/32,{gateway}"
    if not spec.routed:
        return ["dhcp-option=option:router", f"dhcp-option=121,{metadata}"]
    return [
        f"dhcp-option=option:router,{gateway}",
        f"dhcp-option=121,{metadata},0.0.0.0/0,{gateway}",
    ]


def _upstream(spec: NameServerSpec) -> list[str]:
    if spec.routed and not spec.upstream:
        return [f"resolv-file={RESOLV_CONF}"]
    servers = spec.upstream if spec.routed else ()
    return ["no-resolv", *(f"server={IPv4Address(server)}" for server in servers)]


def _write(path: Path, text: str) -> bool:
    """Whether that changed the file. dnsmasq never sees half of it."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        pass
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.chmod(0o644)
    part.replace(path)
    return True


def _running(folder: Path) -> int | None:
    """The folder's dnsmasq, if it lives. The pid file is the daemon's word, so it is checked."""
    try:
        pid = int((folder / "state" / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if os.fsencode(f"--conf-file={folder}/dnsmasq.conf") in command else None


def _moved(folder: Path, spec: NameServerSpec) -> bool:
    """Whether an address is to be one guest's that dnsmasq has leased to another."""
    owners = {lease.ip: lease.mac.lower() for lease in spec.leases}
    leased = (line.split(" ")[1:3] for line in _leased(folder / "state" / "leases").splitlines())
    return any(owners.get(ip, mac) != mac.lower() for mac, ip in filter(_is_pair, leased))


def _is_pair(words: list[str]) -> bool:
    return len(words) == 2


def _leased(path: Path) -> str:
    """dnsmasq's own file, whatever its user has put there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(_MOST_LEASED).decode(errors="replace")


def _start(bridge: str, folder: Path) -> int:
    """dnsmasq's first process ends when its daemon is ready, with 0, or tells why it is not."""
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        raise NameServerError(
            f"cannot start the name server of {bridge}: there is no user {USER}"
        ) from None
    state = folder / "state"
    if state.stat().st_uid != user.pw_uid:
        state.chmod(0o775)
        os.chown(state, user.pw_uid, -1)
    restricted = [
        "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--inh-caps={_CAPABILITIES}",
        f"--ambient-caps={_CAPABILITIES}",
        f"--bounding-set={_CAPABILITIES}",
        "--no-new-privs",
    ]
    try:
        done = subprocess.run(
            [*restricted, "dnsmasq", f"--conf-file={folder}/dnsmasq.conf"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NameServerError(f"cannot start the name server of {bridge}: {error}") from error
    pid = _running(folder)
    if done.returncode != 0 or pid is None:
        why = done.stderr.strip()[:500] or f"dnsmasq ended with {done.returncode}"
        raise NameServerError(f"cannot start the name server of {bridge}: {why}")
    return pid


def _stop(pid: int) -> None:
    """Returns when it has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(process, number)
            if poll.poll(_STOP_TIMEOUT_MS):
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
