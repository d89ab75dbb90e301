"""User data of a container: an environment, and perhaps files. Pure.

As EVE takes it (pkg/pillar/utils/cloudconfig): lines of `NAME=value`; or, behind a first line
`#cloud-config`, the YAML of which `runcmd` has such lines, `write_files` has files, and all else
means nothing to a container.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from edgevirt.host.hypervisor import UnfitError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_MARK: Final = "#cloud-config"
_MOST_FILES: Final = 100
_MOST_CONTENT: Final = 10 << 20
"""Bytes, of all files, unpacked."""
_MODE: Final = re.compile(r"(0o?)?[0-7]{3,4}\Z")
_THE_SYSTEM_S: Final = ("/proc", "/sys", "/dev")
_GZIP_WINDOW: Final = 31


class GivenFile(msgspec.Struct, frozen=True):
    """`path`: from the container's root. It is root's, and no special bits are in its mode."""

    path: str
    content: bytes
    mode: int


class UserData(msgspec.Struct, frozen=True):
    environment: dict[str, str]
    files: tuple[GivenFile, ...] = ()


def parse_user_data(data: bytes) -> UserData:
    """Empty lines, and those with `#` in front, don't count.

    Raises UnfitError, which never quotes a value or a content: it may be a secret.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as failure:
        raise UnfitError("cannot read user data: it is not UTF-8") from failure
    lines = text.splitlines()
    if lines and lines[0].strip() == _MARK:
        return _parse_cloud_config(text)
    return UserData(dict(_variables(lines, "line")))


def _variables(lines: list[str], what: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.strip().partition("=")
        if not equals or not _NAME.match(name) or "\0" in value:
            raise UnfitError(f"cannot read user data: {what} {number} is not NAME=value")
        yield name, value


def _parse_cloud_config(text: str) -> UserData:
    import yaml  # here: few apps need it, and every service would carry it

    try:
        # all values as they are written: 0644 is a mode, not a number
        config = yaml.load(text, yaml.BaseLoader) or {}  # noqa: S506 - makes nothing but text
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnfitError("cannot read user data: it is no YAML") from None
    if not isinstance(config, dict):
        raise UnfitError("cannot read user data: it is no mapping")
    commands, files = _list(config, "runcmd"), _list(config, "write_files")
    if not all(isinstance(command, str) for command in commands):
        raise UnfitError("cannot read user data: runcmd of a container has NAME=value alone")
    if len(files) > _MOST_FILES:
        raise UnfitError(f"cannot read user data: more than {_MOST_FILES} write_files")
    environment = dict(_variables(commands, "runcmd"))
    room, given = _MOST_CONTENT, []
    for number, fields in enumerate(files, 1):
        given.append(_file(fields, f"cannot read user data: write_files {number}", room))
        room -= len(given[-1].content)
    return UserData(environment, tuple(given))


def _list(config: dict[str, Any], name: str) -> list[Any]:
    found = config.get(name) or []
    if not isinstance(found, list):
        raise UnfitError(f"cannot read user data: {name} is no list")
    return found


def _file(fields: object, trouble: str, room: int) -> GivenFile:
    known = fields if isinstance(fields, dict) else {}
    path, content = known.get("path"), known.get("content", "")
    mode, encoding = known.get("permissions") or "0644", known.get("encoding") or "plain"
    rest = (content, mode, encoding)
    if not isinstance(path, str) or not all(isinstance(text, str) for text in rest):
        raise UnfitError(f"{trouble}: it has no path, or what should be text is not")
    if not _MODE.match(mode):
        raise UnfitError(f"{trouble}: permissions are four digits, like 0644")
    if known.get("owner", "root") not in ("root", "root:root"):
        raise UnfitError(f"{trouble}: in a container it can be root's only")
    decoded = _decode(content, encoding, trouble, room)
    return GivenFile(_path(path, trouble), decoded, int(mode, 8) & 0o777)


def _path(wanted: str, trouble: str) -> str:
    clean = posixpath.normpath(wanted)
    if not wanted.startswith("/") or wanted.endswith("/") or clean.startswith("//"):
        raise UnfitError(f"{trouble}: its path is no file's full path")
    if ".." in wanted.split("/") or not wanted.isprintable():
        raise UnfitError(f"{trouble}: its path is no file's full path")
    if any(clean == place or clean.startswith(f"{place}/") for place in _THE_SYSTEM_S):
        raise UnfitError(f"{trouble}: its path is the system's own")
    return clean


def _decode(content: str, encoding: str, trouble: str, room: int) -> bytes:
    """`room`: bytes that it may have."""
    packers, _, plain = encoding.rpartition("+")
    match packers, plain:
        case "", "plain" | "text/plain":
            decoded = content.encode()
        case "", "b64" | "base64":
            decoded = _from_base64(content, trouble)
        case "gz" | "gzip", "b64" | "base64":
            decoded = _unzip(_from_base64(content, trouble), trouble, room)
        case _:
            raise UnfitError(f"{trouble}: its encoding is not plain, b64 or gz+b64")
    if len(decoded) > room:
        raise UnfitError(f"{trouble}: all files together are larger than {_MOST_CONTENT} bytes")
    return decoded


def _from_base64(content: str, trouble: str) -> bytes:
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnfitError(f"{trouble}: its content is no base64") from None


def _unzip(packed: bytes, trouble: str, room: int) -> bytes:
    """A byte more than there is room for, at most."""
    unzipper = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = unzipper.decompress(packed, room + 1)
    except zlib.error:
        raise UnfitError(f"{trouble}: its content is not packed by gzip") from None
    if len(unpacked) <= room and not unzipper.eof:
        raise UnfitError(f"{trouble}: its content is not packed by gzip")
    return unpacked
