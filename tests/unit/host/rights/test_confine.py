"""What a confined process may not do any more. Each test asks the kernel, in its own process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.rights.confine import CAPABILITIES, Confinement, confine, limit_memory
from edgevirt.host.rights.landlock import FileRights, landlock_version
from edgevirt.host.rights.seccomp import Profile, build_filter

pytestmark = pytest.mark.root

USER = 64_190
CLOSED = build_filter(Profile.CLOSED, network=False, privileged=False)
PLAIN = Confinement(uid=USER, gid=USER, filter=CLOSED)


def inside(limits: Confinement, act: Callable[[], str]) -> str:
    """What `act` says in a confined process; its exception's text if it raises."""
    parent = os.getpid()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            confine(limits, parent)
            try:
                said = act()
            except OSError as error:
                said = errno.errorcode[error.errno or 0]
            os.write(write_end, said.encode())
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it was, this process must end here
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        said = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return said


def status() -> str:
    return Path("/proc/self/status").read_text()


def field(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(name + ":")]
    return line.split(":", 1)[1].strip()


def test_a_service_without_rights_has_none() -> None:
    said = inside(PLAIN, status)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(field(said, name), 16) == 0, name
    assert field(said, "NoNewPrivs") == "1"
    assert field(said, "Seccomp") == "2"
    assert field(said, "Uid").split() == [str(USER)] * 4
    assert field(said, "Gid").split() == [str(USER)] * 4
    assert field(said, "Groups") == ""
    assert field(said, "Umask") == "0077"


def test_a_service_keeps_the_capabilities_of_its_row_and_passes_on_no_more() -> None:
    kept = frozenset({"CHOWN", "NET_ADMIN"})
    said = inside(replace(PLAIN, capabilities=kept, groups=(7,)), status)
    mask = sum(1 << CAPABILITIES[name] for name in kept)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(field(said, name), 16) == mask, name
    assert field(said, "Groups") == "7"


def test_the_filter_is_the_same_for_programs_that_a_service_starts() -> None:
    spawning = build_filter(Profile.SPAWNING, network=False, privileged=False)
    limits = replace(PLAIN, filter=spawning)

    def run() -> str:
        with os.popen("unshare --user true 2>&1; cat /proc/self/status") as output:
            return output.read()

    said = inside(limits, run)
    assert "Operation not permitted" in said
    assert field(said, "Seccomp") == "2"
    assert field(said, "NoNewPrivs") == "1"


def test_a_service_that_starts_no_programs_cannot() -> None:
    assert inside(PLAIN, lambda: os.execv("/bin/true", ["true"])) == "EPERM"


def test_a_service_without_network_has_neither_interfaces_nor_sockets() -> None:
    assert inside(PLAIN, lambda: str(socket.socket(socket.AF_INET))) == "EPERM"
    assert inside(PLAIN, lambda: str(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))) == "EPERM"
    devices = inside(PLAIN, lambda: Path("/proc/self/net/dev").read_text()).splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert inside(PLAIN, lambda: str(socket.socket(socket.AF_UNIX).fileno() > 0)) == "True"


def test_a_service_with_network_stays_where_it_is() -> None:
    connected = build_filter(Profile.CLOSED, network=True, privileged=False)
    limits = replace(PLAIN, network=True, filter=connected)
    own = os.readlink("/proc/self/ns/net")
    assert inside(limits, lambda: os.readlink("/proc/self/ns/net")) == own
    assert inside(limits, lambda: str(socket.socket(socket.AF_INET).fileno() > 0)) == "True"


def test_nobody_not_even_who_makes_domains_may_change_the_machines_clock() -> None:
    root = Confinement(
        uid=0,
        gid=0,
        filter=build_filter(Profile.RUNTIME, network=True, privileged=True),
        capabilities=frozenset(CAPABILITIES),
        network=True,
        no_new_privileges=False,
    )
    assert inside(root, lambda: str(__import__("time").clock_settime(0, 0))) == "EPERM"
    assert field(inside(root, status), "NoNewPrivs") == "0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            with contextlib.suppress(PermissionError):
                parent.chmod(parent.stat().st_mode | 0o011)
    for name in ("mine", "yours", "hers"):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def test_a_service_that_may_ignore_permissions_still_stays_in_its_own_files(tree: Path) -> None:
    limits = replace(
        PLAIN,
        capabilities=frozenset({"DAC_OVERRIDE"}),
        files=FileRights(read=(tree / "yours", tree / "absent"), write=(tree / "mine",)),
    )

    def write(name: str) -> str:
        (tree / name / "new").write_text("x")
        return "written"

    restricted = landlock_version() >= 2
    hers = inside(limits, lambda: (tree / "hers/file").read_text())
    assert hers == ("EACCES" if restricted else "hers")
    assert inside(limits, lambda: (tree / "yours/file").read_text()) == "yours"
    assert inside(limits, lambda: write("yours")) == ("EACCES" if restricted else "written")
    assert inside(limits, lambda: write("mine")) == "written"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    cgroup = Cgroup(f"edgevirt-test-{uuid.uuid4().hex[:8]}/one")
    yield cgroup
    cgroup.remove()
    Cgroup(cgroup.path.split("/")[0]).remove()


def test_a_group_takes_a_service_in_and_is_bounded(group: Cgroup) -> None:
    limit_memory(group, 64 << 20)
    child = os.fork()
    if child == 0:
        __import__("signal").pause()
    try:
        group.add(child)
        assert child in group.pids()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    usage = group.usage()
    assert usage is not None
    assert usage.memory_limit == 64 << 20


def test_where_groups_are_unified_each_level_passes_its_controllers_on(tmp_path: Path) -> None:
    (tmp_path / "edge/services").mkdir(parents=True)
    for level in (".", "edge", "edge/services"):
        (tmp_path / level / "cgroup.controllers").write_text("cpu io memory")
    limit_memory(Cgroup("edge/services/agent", root=tmp_path), 64 << 20)
    assert (tmp_path / "edge/services/agent/memory.max").read_text() == str(64 << 20)
    passing = sorted(path.parent for path in tmp_path.rglob("cgroup.subtree_control"))
    assert passing == [tmp_path, tmp_path / "edge", tmp_path / "edge/services"]


def test_a_service_dies_with_who_forked_it() -> None:
    """A middle process forks a confined one and is killed: the confined one must go too."""
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setpgid(0, 0)
        own = os.getpid()
        if os.fork() == 0:
            confine(PLAIN, own)
            os.write(write_end, b"up")
            while True:
                __import__("signal").pause()
        os.close(write_end)
        while True:
            __import__("signal").pause()
    os.close(write_end)
    assert os.read(read_end, 2) == b"up"
    os.kill(middle, 9)
    os.waitpid(middle, 0)
    # the pipe ends when nobody is left to write to it
    assert os.read(read_end, 1) == b""
    os.close(read_end)
