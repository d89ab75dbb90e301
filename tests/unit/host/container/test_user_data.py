"""User data of a container: what it says, and what is refused without a word of it."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.host.container.user_data import GivenFile, parse_user_data
from edgevirt.host.hypervisor import UnfitError

CONFIG = """\
#cloud-config
hostname: ignored
runcmd:
  - GREETING=hello there
  - PORT=80
write_files:
  - path: /etc/app/app.conf
    content: |
      [app]
      secret=1
    permissions: 0640
  - {path: /plain, content: "007"}
  - {path: /packed, encoding: gz+b64, content: %s, permissions: '4755', owner: 'root:root'}
"""


def packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content)).decode()


def test_lines_are_an_environment() -> None:
    found = parse_user_data(b"# words\n\nA=1\n  B=a b=c \n")
    assert (found.environment, found.files) == ({"A": "1", "B": "a b=c"}, ())


def test_a_cloud_config_has_an_environment_and_files_as_they_are_written() -> None:
    found = parse_user_data((CONFIG % packed(b"\0\xff")).encode())
    assert found.environment == {"GREETING": "hello there", "PORT": "80"}
    assert found.files == (
        GivenFile("/etc/app/app.conf", b"[app]\nsecret=1\n", 0o640),
        GivenFile("/plain", b"007", 0o644),
        GivenFile("/packed", b"\0\xff", 0o755),
    )


@pytest.mark.parametrize("data", [b"", b"#cloud-config", b"#cloud-config\nruncmd:\n"])
def test_user_data_may_say_nothing(data: bytes) -> None:
    assert not parse_user_data(data).environment


def file(**fields: str) -> bytes:
    known = {"path": "/hunter", "content": "hunter2", **fields}
    return f"#cloud-config\nwrite_files: [{json.dumps(known)}]\n".encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"A=1\nhunter2\n", "line 2"),
        (b"=hunter2\n", "line 1"),
        (b"A B=hunter2\n", "line 1"),
        (b"A=hunter2\0\n", "line 1"),
        (b"\xff=hunter2\n", "UTF-8"),
        (b"#cloud-config\n{hunter2", "no YAML"),
        (b"#cloud-config\n" + b"[" * 100_000, "no YAML"),
        (b"#cloud-config\n- hunter2\n", "no mapping"),
        (b"#cloud-config\nruncmd: hunter2\n", "no list"),
        (b"#cloud-config\nruncmd: [[hunter2]]\n", "NAME=value alone"),
        (b"#cloud-config\nruncmd: ['A=1', 'echo hunter2']\n", "runcmd 2 is not"),
        (b"#cloud-config\nwrite_files: [hunter2]\n", "write_files 1: it has no path"),
        (file(path="hunter2"), "full path"),
        (file(path="/a/../hunter2"), "full path"),
        (file(path="//hunter2"), "full path"),
        (file(path="/hunter2/"), "full path"),
        (file(path="/hunter2\tx"), "full path"),
        (file(path="/proc/hunter2"), "system's own"),
        (file(path="/a/./../dev/hunter2"), "full path"),
        (file(permissions="rw-r--r--"), "permissions"),
        (file(owner="hunter2:app"), "root's only"),
        (file(encoding="rot13"), "encoding"),
        (file(encoding="b64", content="hunter2!"), "no base64"),
        (file(encoding="gz+b64", content="aHVudGVyMg=="), "not packed by gzip"),
        (
            file(encoding="gz+b64", content=packed(b"hunter2" * 9)[:-16]),
            "not packed by gzip|base64",
        ),
        (file(encoding="gz+b64", content=packed(bytes(11 << 20))), "larger than"),
        (b"#cloud-config\nwrite_files: [" + b"{}," * 101 + b"]\n", "more than 100"),
    ],
)
def test_what_a_container_cannot_be_given_is_told_and_not_quoted(data: bytes, why: str) -> None:
    with pytest.raises(UnfitError, match=why) as refused:
        parse_user_data(data)
    assert "hunter2" not in str(refused.value)


def test_files_share_their_room() -> None:
    half = packed(bytes(6 << 20))
    one = f"{{path: /a, encoding: gz+b64, content: {half}}}"
    assert parse_user_data(f"#cloud-config\nwrite_files: [{one}]\n".encode()).files
    with pytest.raises(UnfitError, match="write_files 2: all files together"):
        parse_user_data(f"#cloud-config\nwrite_files: [{one}, {one}]\n".encode())


@given(st.sampled_from(["SECRET=", "#cloud-config\n", "#cloud-config\nruncmd: "]), st.binary())
def test_no_user_data_at_all_breaks_the_parser(before: str, data: bytes) -> None:
    try:
        found = parse_user_data(before.encode() + data)
    except UnfitError:
        return
    assert all(name and "=" not in name for name in found.environment)
