"""Quotes of a real TPM, with a log that explains each register."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevirt.host.tpm.measure import measure_config
from edgevirt.host.tpm.module import Tpm, open_tpm
from edgevirt.host.tpm.protocol import KeyRole
from edgevirt.model import kinds
from edgevirt.model.trust import Quote, QuoteRequest
from edgevirt.node.trust.quotes import Quotes, differing
from edgevirt.node.trust.worker import Worker
from edgevirt.runtime.access import View
from edgevirt.wire import event_log
from tests.parts.swtpm import Swtpm, swtpm

NONCE = b"a nonce of the fleet"


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path / "tpm") as machine:
        yield machine


@pytest.fixture
def module(tpm: Swtpm, tmp_path: Path) -> Iterator[Tpm]:
    """Booted as a machine does it: an initrd, then process 1."""
    (tmp_path / "measured").write_text("")
    measure_config(
        {"server": b"fleet"}, tmp_path / "measured", tmp_path / "firmware", tpm.socket, tmp_path
    )
    found = open_tpm(tpm.socket)
    assert found is not None
    yield found
    found.close()


async def asked(module: Tpm | None, where: Path, nonce: bytes = NONCE) -> Quote:
    quotes = Quotes(module, where / "measured", where / "firmware", Worker(module=True))
    inputs = View({kinds.QUOTE.name: {}}, now=0.0, monotonic=0.0)
    found = await quotes.reconcile("1", QuoteRequest(nonce=nonce), inputs, _no_report)
    assert found is not None
    return found


async def _no_report(status: object) -> None:
    raise AssertionError("a quote has no steps")


async def test_the_log_explains_the_quoted_registers(module: Tpm, tmp_path: Path) -> None:
    given = await asked(module, tmp_path)
    values = dict(given.registers)
    events = event_log.read(gzip.decompress(given.event_log))
    assert list(values) == list(range(24))
    assert differing(event_log.replay(events), values) == ()
    assert b"CONFIG/server sha256:" in events[-1].data + b"".join(e.data for e in events)
    assert all(event.is_own_hash for event in events if event.register == 14)
    module.public_key(KeyRole.QUOTE)


async def test_what_was_measured_past_the_log_shows(module: Tpm, tmp_path: Path) -> None:
    module.extend(8, b"x" * 32)
    given = await asked(module, tmp_path)
    events = event_log.read(gzip.decompress(given.event_log))
    assert differing(event_log.replay(events), dict(given.registers)) == (8,)


async def test_a_log_that_cannot_be_read_does_not_keep_the_quote_back(
    module: Tpm, tmp_path: Path
) -> None:
    (tmp_path / "firmware").chmod(0o644)
    (tmp_path / "firmware").write_bytes(b"nonsense")
    given = await asked(module, tmp_path)
    assert given.attest
    assert given.event_log == b""


async def test_a_machine_without_a_module_says_so(tmp_path: Path) -> None:
    assert await asked(None, tmp_path) == Quote(why="the machine has no security module")


async def test_a_nonce_that_proves_nothing_is_refused(module: Tpm, tmp_path: Path) -> None:
    assert (await asked(module, tmp_path, b"short")).why == "a nonce of 5 bytes"


async def test_a_module_that_fails_is_told_in_words(
    module: Tpm, tpm: Swtpm, tmp_path: Path
) -> None:
    tpm.stop()
    assert "with the TPM" in (await asked(module, tmp_path)).why
