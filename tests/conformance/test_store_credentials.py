"""Who may read a kind, judged by the kernel's word: real processes of different users."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

OWNER, FRIEND, STRANGER, NOBODY = 64_101, 64_102, 64_103, 64_104
NAMES = {OWNER: "owner", FRIEND: "friend", STRANGER: "stranger"}

PROGRAM = f"""
import asyncio, os, sys
from pathlib import Path
role, directory, uid = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sys.path[:0] = sys.argv[4:]
import msgspec
from edgevirt.runtime import Denied, Kind, StoreError
from edgevirt.runtime.socket import SocketStore
from tests.conformance.store_drivers import Thing
import encodings.idna, stringprep, concurrent.futures.thread
NAMES = {NAMES!r}
SECRET = Kind("Secret", Thing, readers=frozenset({{"friend"}}))
OPEN = Kind("Open", Thing)
os.setgroups([])
os.setgid(uid)
os.setuid(uid)

async def own():
    async with SocketStore(directory, "owner", [SECRET, OPEN], [], uid_names=NAMES) as store:
        await store.put(SECRET, "key", Thing(42))
        await store.put(OPEN, "key", Thing(7))
        print("up", flush=True)
        await asyncio.sleep(3600)

async def read():
    owners = {{"Secret": "owner", "Open": "owner"}}
    kinds = [SECRET, OPEN]
    names = NAMES
    async with SocketStore(directory, "x", [], kinds, uid_names=names, owners=owners) as store:
        for kind in kinds:
            try:
                async with asyncio.timeout(90):
                    found = await store.get(kind, "key")
                print(kind.name, found.value.number)
            except Denied:
                print(kind.name, "denied")

async def seize():
    try:
        await SocketStore(directory, "owner", [SECRET], [], uid_names=NAMES).open()
        print("seized")
    except StoreError as error:
        print("refused")

asyncio.run({{"own": own, "read": read, "seize": seize}}[role]())
"""


def start(role: str, directory: Path, uid: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, role, str(directory), str(uid), *sys.path]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(role: str, directory: Path, uid: int) -> list[str]:
    with start(role, directory, uid) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.splitlines()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory that every service may make sockets in, with an owner at work."""
    directory = Path(tempfile.mkdtemp(prefix="edgevirt-sockets-"))
    directory.chmod(0o1777)
    try:
        with start("own", directory, OWNER) as owner:
            try:
                assert owner.stdout is not None
                assert owner.stdout.readline() == "up\n"
                yield directory
            finally:
                owner.kill()
    finally:
        shutil.rmtree(directory)


def test_a_named_reader_reads_what_names_it(sockets: Path) -> None:
    assert said("read", sockets, FRIEND) == ["Secret 42", "Open 7"]


def test_another_service_reads_only_what_is_open_to_all(sockets: Path) -> None:
    assert said("read", sockets, STRANGER) == ["Secret denied", "Open 7"]


@pytest.mark.parametrize("uid", [NOBODY, 0])
def test_who_is_no_service_reads_nothing_not_even_root(sockets: Path, uid: int) -> None:
    assert said("read", sockets, uid) == ["Secret denied", "Open denied"]


def test_a_secret_is_in_no_file_that_others_can_open(sockets: Path) -> None:
    files = [path for path in sockets.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".lock", ".values"}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_another_service_cannot_take_a_kind_over(sockets: Path) -> None:
    assert said("seize", sockets, STRANGER) == ["refused"]
    assert said("read", sockets, FRIEND) == ["Secret 42", "Open 7"]


def test_an_impostor_that_came_first_is_not_believed() -> None:
    directory = Path(tempfile.mkdtemp(prefix="edgevirt-sockets-"))
    directory.chmod(0o1777)
    try:
        with start("own", directory, STRANGER) as impostor:
            try:
                assert impostor.stdout is not None
                assert impostor.stdout.readline() == "up\n"
                with start("read", directory, FRIEND) as reader:
                    assert reader.stderr is not None
                    assert f"served by user {STRANGER}, not its owner" in reader.stderr.readline()
                    reader.kill()
                    assert reader.communicate()[0] == ""
                assert said("seize", directory, OWNER) == ["refused"]
            finally:
                impostor.kill()
    finally:
        shutil.rmtree(directory)
