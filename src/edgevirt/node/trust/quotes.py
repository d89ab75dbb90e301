"""QuoteRequest → Quote: what booted, signed by the machine's security module."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.measure import read_measured
from edgevirt.host.tpm.protocol import SecurityModule
from edgevirt.model import kinds
from edgevirt.model.trust import Quote, QuoteRequest
from edgevirt.node.trust.worker import Worker
from edgevirt.runtime import Inputs, Kind, Report
from edgevirt.wire import event_log
from edgevirt.wire.event_log import IPL, Event, EventLogError

_log = logging.getLogger(__name__)

QUOTED: Final = range(16)
EXPLAINED: Final = range(15)
"""What the event log should explain; 15 is for others."""
_TOLD: Final = range(24)
_NONCE_MIN, _NONCE_MAX = 12, 32
LOG_MAX: Final = 128 << 10
"""Bytes of a compressed event log; a longer one is not sent: controllers bound the request."""


class Quotes:
    """A quote, once given, stays as it is until its request is gone."""

    name = "quotes"
    spec: Kind[Any] = kinds.QUOTE_REQUEST
    status: Kind[Any] = kinds.QUOTE
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = None

    def __init__(
        self,
        module: SecurityModule | None,
        measured: Path,
        firmware_log: Path,
        worker: Worker,
    ) -> None:
        self._module = module
        self._measured = measured
        self._firmware_log = firmware_log
        self._worker = worker

    async def reconcile(
        self, key: str, spec: QuoteRequest | None, inputs: Inputs, report: Report[Any]
    ) -> Quote | None:
        if spec is None:
            return None
        given = inputs.get(kinds.QUOTE, key)
        if given is not None:
            return given
        if self._module is None:
            return Quote(why="the machine has no security module")
        if not _NONCE_MIN <= len(spec.nonce) <= _NONCE_MAX:
            return Quote(why=f"a nonce of {len(spec.nonce)} bytes")
        try:
            return await self._worker.run(partial(self._quote, self._module, spec.nonce))
        except TpmError as error:
            return Quote(why=str(error))

    async def existing(self) -> Iterable[str]:
        return ()

    def _quote(self, module: SecurityModule, nonce: bytes) -> Quote:
        signed = module.quote(nonce, QUOTED)
        others = module.registers(set(_TOLD) - set(QUOTED))
        values = {**signed.values, **others}
        return Quote(
            attest=signed.attest,
            signature=signed.signature,
            registers=tuple(sorted(values.items())),
            event_log=self._event_log(signed.values),
        )

    def _event_log(self, values: Mapping[int, bytes]) -> bytes:
        """Compressed; empty when there is none that can be read."""
        try:
            whole = event_log.append(
                _content(self._firmware_log),
                (
                    Event(line.register, IPL, line.digest, line.text.encode())
                    for line in read_measured(_content(self._measured).decode(errors="replace"))
                ),
            )
            unexplained = differing(event_log.replay(event_log.read(whole)), values)
        except EventLogError as error:
            _log.warning("no event log is sent with the quote: %s", error)
            return b""
        if unexplained:
            _log.warning("the event log does not explain registers %s", list(unexplained))
        packed = gzip.compress(whole, 6, mtime=0)
        if len(packed) > LOG_MAX:
            _log.warning("no event log is sent with the quote: %d bytes", len(packed))
            return b""
        return packed


def differing(replayed: Mapping[int, bytes], values: Mapping[int, bytes]) -> tuple[int, ...]:
    """Registers that hold something else than the log says."""
    return tuple(
        number
        for number in EXPLAINED
        if number in values and replayed.get(number, bytes(32)) != values[number]
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
