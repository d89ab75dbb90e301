"""What an event of a machine's log measured, in words; and how two logs differ. Pure.

The words are the machine's own and prove nothing: they are shown, never decided by.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from edgevirt.wire.event_log import Event

MAX_WORDS: Final = 160

_FILE_PATH: Final = (4, 4)
"""Type and subtype of the nodes of a device path that name a file."""
_END: Final = 0x7F


def describe(event: Event) -> str:
    """`EFI application \\EFI\\BOOT\\BOOTX64.EFI`, `EFI variable SecureBoot`, `grub_cmd: …`."""
    name, read = _TYPES.get(event.kind, (f"event of type {event.kind:#x}", _text))
    try:
        detail = read(event.data)
    except (struct.error, UnicodeDecodeError, IndexError):
        detail = ""
    return _clean(f"{name} {detail}") or "something"


def explain(register: int, now: Sequence[Event], before: Sequence[Event] | None) -> str:
    """What makes the register another one. `before`: the events when it was accepted, if known."""
    if not now:
        return "its log does not tell what was measured into it"
    if before is None:
        count = "1 event" if len(now) == 1 else f"{len(now)} events"
        return f"{count} made it, the last of {describe(now[-1])}"
    for index, event in enumerate(now):
        if index >= len(before):
            return f"{describe(event)} was measured in addition"
        old = before[index]
        if old.digest != event.digest:
            return _changed(event, old)
    if len(now) < len(before):
        return f"{describe(before[len(now)])} was not measured"
    return f"the log tells of no difference in register {register}"


def _changed(event: Event, old: Event) -> str:
    words, former = describe(event), describe(old)
    if words == former:
        return f"{words} is another one: {event.digest.hex()[:12]}, before {old.digest.hex()[:12]}"
    return f"{words} was measured, before it was {former}"


# -- the data of each type --


def _text(data: bytes) -> str:
    text = data.rstrip(b"\0")
    if len(text) > 3 and text[1::2].count(0) > len(text) // 3:
        return (text + b"\0" * (len(text) % 2)).decode("utf-16-le", "replace")
    return text.decode("utf-8", "replace")


def _nothing(_data: bytes) -> str:
    return ""


def _variable(data: bytes) -> str:
    """UEFI_VARIABLE_DATA: vendor, length of the name, length of the value."""
    length, _ = struct.unpack_from("<QQ", data, 16)
    return data[32 : 32 + 2 * min(length, MAX_WORDS)].decode("utf-16-le", "replace")


def _image(data: bytes) -> str:
    """UEFI_IMAGE_LOAD_EVENT: place, size, address, length of the device path, the path."""
    (length,) = struct.unpack_from("<Q", data, 24)
    return _device_path(data[32 : 32 + length])


def _device_path(path: bytes) -> str:
    """The names of files in it."""
    names, position = [], 0
    while position + 4 <= len(path):
        kind, subtype, length = struct.unpack_from("<BBH", path, position)
        if length < 4 or kind == _END:
            break
        if (kind, subtype) == _FILE_PATH:
            name = path[position + 4 : position + length].decode("utf-16-le", "replace")
            names.append(name.rstrip("\0"))
        position += length
    return "".join(names)


def _blob(data: bytes) -> str:
    base, length = struct.unpack_from("<QQ", data)
    return f"of {length} bytes at {base:#x}"


def _named_blob(data: bytes) -> str:
    return data[1 : 1 + data[0]].rstrip(b"\0").decode("utf-8", "replace")


def _tagged(data: bytes) -> str:
    (length,) = struct.unpack_from("<I", data, 4)
    return _text(data[8 : 8 + length])


_TYPES: Final[dict[int, tuple[str, Callable[[bytes], str]]]] = {
    0x01: ("firmware", _text),
    0x04: ("the end of the firmware's part", _nothing),
    0x05: ("action", _text),
    0x06: ("", _tagged),
    0x07: ("firmware's first code", _text),
    0x08: ("firmware version", _text),
    0x09: ("CPU microcode", _nothing),
    0x0A: ("platform settings", _nothing),
    0x0B: ("tables of devices", _nothing),
    0x0D: ("", _text),
    0x0E: ("boot partition data", _nothing),
    0x0F: ("code of a device", _text),
    0x10: ("settings of a device", _text),
    0x80000001: ("EFI variable", _variable),
    0x80000002: ("EFI variable", _variable),
    0x80000003: ("EFI application", _image),
    0x80000004: ("EFI driver", _image),
    0x80000005: ("EFI runtime driver", _image),
    0x80000006: ("the disk's partition table", _nothing),
    0x80000007: ("", _text),
    0x80000008: ("firmware", _blob),
    0x80000009: ("tables of the firmware", _nothing),
    0x8000000A: ("firmware", _named_blob),
    0x8000000B: ("tables of the firmware", _named_blob),
    0x8000000C: ("EFI variable", _variable),
    0x800000E0: ("EFI variable that let an image run:", _variable),
}
"""Name, and what reads the rest (PC Client Platform Firmware Profile, 10.4.1)."""


def _clean(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= MAX_WORDS else shown[: MAX_WORDS - 1] + "…"
