"""What a stick is for: it brings a port config, and takes the node's identity and diagnosis along.

A stick asks for the latter two by the directories `identity` and `dump` (as EVE's do).
"""

from __future__ import annotations

import io
import logging
import re
import tarfile
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from edgevirt.host.disk.sticks import StickError, Sticks
from edgevirt.model.node import AgentStatus, Identity
from edgevirt.model.ports import PortConfig
from edgevirt.wire.override import OverrideError, parse_override

_LOG: Final = logging.getLogger("edgevirt.console")
POLL: Final = 30.2
"""Seconds between two looks."""
_BRINGS: Final = ("usb.json", "override.json")
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]")


class Visits(msgspec.Struct):
    """`seen`: what each stick that is plugged in was told the last time."""

    sticks: Sticks
    identity: Callable[[], Mapping[str, bytes]]
    diagnosis: Callable[[], Mapping[str, bytes]]
    serial: Callable[[], str]
    seen: dict[str, Mapping[str, bytes]] = msgspec.field(default_factory=dict)

    async def look(self, now: float) -> list[PortConfig]:
        """Port configs that sticks brought since the last look."""
        brought = []
        try:
            present = await self.sticks.find()
        except StickError as error:
            _LOG.warning("%s", error)
            return []
        for gone in self.seen.keys() - set(present):
            del self.seen[gone]
        for stick in present:
            try:
                if stick not in self.seen:
                    brought += await self._take(stick, now)
                await self._give(stick)
            except StickError as error:
                _LOG.warning("%s", error)
        return brought

    async def _take(self, stick: str, now: float) -> list[PortConfig]:
        _LOG.info("the stick %s was plugged in", stick)
        for name in _BRINGS:
            raw = await self.sticks.read(stick, name)
            if raw is None:
                continue
            try:
                return [parse_override(raw, now)]
            except OverrideError as error:
                _LOG.error("%s of the stick %s: %s", name, stick, error)
        return []

    async def _give(self, stick: str) -> None:
        """What changed since the last time; the diagnosis does."""
        wanted: dict[str, bytes] = {}
        if await self.sticks.has_directory(stick, "identity"):
            folder = f"identity/{safe_name(self.serial())}"
            wanted.update({f"{folder}/{name}": text for name, text in self.identity().items()})
        if await self.sticks.has_directory(stick, "dump"):
            wanted["dump/diag.tar"] = packed(self.diagnosis())
        told = self.seen.get(stick, {})
        for path, content in wanted.items():
            if told.get(path) != content:
                await self.sticks.make_directory(stick, path.rpartition("/")[0])
                await self.sticks.write(stick, path, content)
        self.seen[stick] = wanted


def identity_files(identity: Identity | None, agent: AgentStatus | None) -> dict[str, bytes]:
    """What is public of it, by file name."""
    files = {}
    if identity is not None:
        files = {
            "device.cert.pem": identity.device_cert,
            "onboard.cert.pem": identity.onboarding_cert,
            "serial": identity.serial,
            "soft_serial": identity.soft_serial,
        }
    if agent is not None and agent.node is not None:
        files["uuid"] = agent.node
    return {name: text.encode() for name, text in files.items() if text}


def safe_name(serial: str) -> str:
    """As the name of a directory; serials come from the machine's maker."""
    return _FORBIDDEN.sub("_", serial)[:64].strip(".") or "unknown"


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tar file; the same bytes for the same content."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return into.getvalue()
