"""A volume that its config wants bigger than it is.

Room is promised before anything grows. A disk that a running domain has is its hypervisor's to
grow, so that the guest sees it at once; what the disk itself says tells that it is done. One that
no domain has grows here, as soon as apps says that none will be started with it meanwhile. What is
recorded comes last, so whoever dies in between, the next one finds out what is left to do.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.host.files import DiskError
from edgevirt.host.volumes.convert import whole_sectors
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.host.volumes.image import BadDiskImage
from edgevirt.model.base import Severity, Trouble
from edgevirt.model.kinds import DOMAIN_STATUS, VOLUME_STATUS, VOLUME_USE
from edgevirt.model.quantity import spelled
from edgevirt.model.volume import Growth, Volume, VolumeOrigin, VolumeStatus
from edgevirt.node.properties import flag
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.runtime import Inputs

_AS_IT_IS: Final = "it goes on as it is"
_WHEN_STOPPED: Final = "it grows when its app is stopped"
_RESTART: Final = "restart the app"


class Grown(msgspec.Struct, frozen=True):
    """What came of it: `record` as it is now; `growing`: it is still to be done; `failed`: it was
    tried, and is worth another try soon.
    """

    record: VolumeRecord
    growing: Growth | None = None
    trouble: Trouble | None = None
    failed: bool = False


class Grower:
    """The reader declares VOLUME_USE, DOMAIN_STATUS, and what the ledger reads."""

    def __init__(self, files: VolumeFiles, ledger: Ledger) -> None:
        self._files = files
        self._ledger = ledger

    async def settle(self, key: str, spec: Volume, record: VolumeRecord, inputs: Inputs) -> Grown:
        """Of a volume that is made."""
        before = inputs.get(VOLUME_STATUS, key)
        teller = _Teller(key, spec, record, before, inputs)
        told = before.growing if before is not None else None
        wanted = wanted_size(spec, record, told)
        if wanted <= record.size:
            self._promise(key, record.size)
            return Grown(record, trouble=teller.too_small() or teller.lagging())
        try:
            there = await asyncio.to_thread(self._files.room, key, record)
        except (BadDiskImage, OSError) as failure:
            return Grown(record, trouble=teller.cannot(wanted, str(failure)))
        if there is None:
            return Grown(record)
        left = self._ledger.left(key, inputs)
        if wanted > left and there < wanted and not flag(inputs, "storage.apps.ignore.disk.check"):
            self._promise(key, record.size)
            why = self._ledger.shortage("volume", wanted, left, inputs)
            return Grown(record, trouble=teller.cannot(wanted, why))
        self._promise(key, wanted)
        is_told = told is not None and told.size == wanted
        growth = told if told and is_told else Growth(size=wanted, begun=inputs.now)
        use = inputs.get(VOLUME_USE, key)
        if there < wanted and (use is None or use.yields != growth):
            return Grown(record, growth, teller.underway(growth))
        try:
            grown = await self._finish(key, spec, record, growth)
        except (DiskError, BadDiskImage, OSError) as failure:
            self._promise(key, record.size)
            return Grown(record, trouble=teller.cannot(wanted, str(failure)), failed=True)
        teller = _Teller(key, spec, grown, before, inputs)
        return Grown(grown, trouble=teller.too_small() or teller.lagging())

    def _promise(self, key: str, size: int) -> None:
        self._ledger.promise(key, size, lambda: self._files.taken(key))

    async def _finish(
        self, key: str, spec: Volume, known: VolumeRecord, growth: Growth
    ) -> VolumeRecord:
        """A snapshot may have been taken of it or brought it back meanwhile: then there will be
        another look at it.
        """
        async with self._files.alone(key):
            record = self._files.record(key)
            if record != known:
                return record or known
            asked = spec.max_size if spec.max_size > record.size else growth.size
            grown = replace(record, size=growth.size, asked=asked)
            there = await asyncio.to_thread(self._files.room, key, record)
            if there is not None and there >= growth.size:
                await asyncio.to_thread(self._files.write_record, key, grown)
            else:
                await self._files.grow(key, grown)
            return grown


def wanted_size(spec: Volume, record: VolumeRecord, told: Growth | None) -> int:
    """Bytes. What was begun is ended, since a domain may have done it already."""
    begun = told.size if told is not None else 0
    if spec.max_size <= record.size:
        return max(begun, record.size)
    return max(begun, whole_sectors(spec.max_size))


class _Teller:
    """What is told of one volume."""

    def __init__(
        self,
        key: str,
        spec: Volume,
        record: VolumeRecord,
        before: VolumeStatus | None,
        inputs: Inputs,
    ) -> None:
        self._key = key
        self._spec = spec
        self._record = record
        self._before = before
        self._inputs = inputs
        self._name = spec.name or key

    def too_small(self) -> Trouble | None:
        """A size that is below what an image needs was never asked for as such."""
        spec, record = self._spec, self._record
        asked = record.asked or (record.size if spec.origin is VolumeOrigin.BLANK else 0)
        if not 0 < spec.max_size < min(record.size, asked):
            return None
        sizes = f"it has {spelled(record.size)}, the config says {spelled(spec.max_size)}"
        return self._warning(f"cannot make volume {self._name} smaller: {sizes}", _AS_IT_IS)

    def cannot(self, wanted: int, why: str) -> Trouble:
        sizes = f"from {spelled(self._record.size)} to {spelled(wanted)}"
        return self._warning(f"cannot grow volume {self._name} {sizes}: {why}", _AS_IT_IS)

    def underway(self, growth: Growth) -> Trouble:
        """In words; with why it takes so long, if its domain says so."""
        what = f"growing from {spelled(self._record.size)} to {spelled(growth.size)}"
        if why := self._complaint():
            return self._warning(f"{what}: {why}", _WHEN_STOPPED)
        return Trouble(why=what, since=growth.begun, severity=Severity.NOTICE)

    def lagging(self) -> Trouble | None:
        """It has grown, but its domain cannot use that yet."""
        if why := self._complaint():
            size = spelled(self._record.size)
            return self._warning(f"cannot use all {size} of volume {self._name}: {why}", _RESTART)
        return None

    def _complaint(self) -> str:
        """Of a domain that has it."""
        use, before = self._inputs.get(VOLUME_USE, self._key), self._before
        for app in use.apps if use is not None else ():
            domain = self._inputs.get(DOMAIN_STATUS, app)
            for disk in domain.disks if domain is not None else ():
                if before is not None and disk.path == before.path and disk.why:
                    return disk.why
        return ""

    def _warning(self, why: str, hint: str) -> Trouble:
        """The same as before began when it did, whatever its figures are now."""
        known = self._before.trouble if self._before is not None else None
        same = known is not None and known.why.split(":")[0] == why.split(":")[0]
        since = known.since if known is not None and same else self._inputs.now
        return Trouble(why=why, since=since, severity=Severity.WARNING, hint=hint)
