"""What a TPM's registers hold after a boot of an image that nobody changed. Pure.

Who extends what, in this order (checked against a real boot's event log):

- 4, firmware: that it starts a program, a separator, GRUB; then the kernel, which GRUB starts as a
  program of firmware's. A program is measured without its signatures (Authenticode).
- 8, GRUB: each command of stage 2 as it was run, and the kernel's command line.
- 9, GRUB: each file that it read; then the kernel's own stub: its options, and the initial file
  system once more.
- 13, the initial file system: the root image.

Under a hypervisor that GRUB starts by multiboot2, firmware starts nothing after GRUB, and the
kernel is a file that GRUB read as any other: 4 ends with GRUB, 9 with the initial file system. 8
has the hypervisor's options and, for each of its modules, what stands behind the file's name.

Registers 8 and 9 know the name of the slot, so there is one value for each.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from edgevirt.image.errors import ImageError
from edgevirt.model.disk import SLOTS

_STARTS: Final = b"Calling EFI Application from Boot Option"
_SEPARATOR: Final = bytes(4)
_BLOCK: Final = 4096
_WORD: Final = re.compile(r'"([^"]*)"|(\S+)')
_CHECKSUM, _CERTIFICATES_64, _CERTIFICATES_32 = 64, 144, 128


class MeasureError(ImageError):
    """«cannot measure X: why»."""


@dataclass(frozen=True)
class Booted:
    """What is read on the way: GRUB's program, stage 2, kernel, initial file system, root image.

    `root`: SHA-256 of the root image, hex. `hypervisor`: its file as GRUB reads it, packed; empty:
    GRUB starts the kernel itself.
    """

    loader: bytes
    stage2: bytes
    kernel: bytes
    initrd: bytes
    root: str
    hypervisor: bytes = b""


def expect(booted: Booted) -> Mapping[str, list[str]]:
    """By register, the values that it may have, in hex."""
    runs = [_commands(booted.stage2.decode(), slot) for slot in SLOTS]
    read = (booted.stage2, booted.hypervisor, booted.kernel, booted.initrd)
    files = [_sha256(content) for content in read if content]
    programs: list[bytes] = [booted.loader]
    stubs: list[list[bytes]] = [[] for _ in runs]
    if not booted.hypervisor:
        programs = [booted.loader, booted.kernel]
        stubs = [[_sha256(options.encode("utf-16-le")), files[-1]] for _, options in runs]
    return {
        "4": [_extend([*map(_sha256, (_STARTS, _SEPARATOR)), *map(authenticode, programs)])],
        "8": [_extend(_sha256(text.encode()) for text in texts) for texts, _ in runs],
        "9": [_extend([*files, *stub]) for stub in stubs],
        "13": [_extend([bytes.fromhex(booted.root)])],
    }


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _extend(digests: Iterable[bytes]) -> str:
    value = bytes(32)
    for digest in digests:
        value = _sha256(value + digest)
    return value.hex()


def _commands(stage2: str, slot: str) -> tuple[list[str], str]:
    """The texts that GRUB measures while it runs stage 2, and the kernel's options.

    Stage 2 is a plain list of commands with one condition, which is false here.
    """
    skipping = False
    values = {"slot": slot, "overrides": "", "boot_args": ""}
    texts = ["source /EFI/BOOT/grub.cfg"]
    options = ""
    for line in stage2.splitlines():
        line = line.split("#")[0].strip() if line.startswith("#") else line.strip()
        if not line:
            continue
        if line.startswith("if ") and not skipping:
            texts.append("[ -n  ]")
            skipping = not line.endswith("; fi")
            continue
        if skipping:
            skipping = line != "fi"
            continue
        words = _expand(line, values)
        texts.append(" ".join(words))
        if words[0] == "set":
            name, _, value = words[1].partition("=")
            values[name] = value
        if words[0] == "linux":
            texts.append(" ".join(words[1:]))
            options = f"BOOT_IMAGE={' '.join(words[1:])}"
        if words[0] in ("multiboot2", "module2"):
            texts.append(" ".join(words[2:]))
    return texts, options


def _expand(line: str, values: Mapping[str, str]) -> list[str]:
    """Words as GRUB has them: an unquoted empty variable is no word, one with spaces is several."""
    name, _, value = line.partition("=")
    if name.startswith("set ") and value.startswith('"'):
        return ["set", f"{name.removeprefix('set ')}={value.strip(chr(34))}"]
    text = re.sub(r"\$(\w+)", lambda found: values.get(found[1], ""), line)
    return [quoted or plain for quoted, plain in _WORD.findall(text)]


def authenticode(program: bytes) -> bytes:
    """SHA-256 of a PE program as firmware measures it: less checksum and signatures.

    Raises MeasureError.
    """
    try:
        return _authenticode(program)
    except struct.error:
        raise MeasureError(
            "cannot measure a program: it is not what firmware could start"
        ) from None


def _authenticode(program: bytes) -> bytes:
    (start,) = struct.unpack_from("<I", program, 0x3C)
    if program[:2] != b"MZ" or program[start : start + 4] != b"PE\0\0":
        raise MeasureError("cannot measure a program: it is not what firmware could start")
    optional = start + 24
    (magic,) = struct.unpack_from("<H", program, optional)
    checksum = optional + _CHECKSUM
    entry = optional + (_CERTIFICATES_64 if magic == 0x20B else _CERTIFICATES_32)
    signed_at, signed_size = struct.unpack_from("<II", program, entry)
    end = signed_at if signed_size else len(program)
    digest = hashlib.sha256(program[:checksum])
    digest.update(program[checksum + 4 : entry])
    digest.update(program[entry + 8 : end])
    if signed_size:
        digest.update(program[signed_at + signed_size :])
    return digest.digest()
