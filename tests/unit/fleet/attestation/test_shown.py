"""What of a verdict people read."""

from __future__ import annotations

import gzip

from edgevirt.fleet.attestation.shown import log_worth
from tests.parts.measured import SoftwareTpm, boot, pack_log

OWN = {13: b"root image 1"}
GOOD = SoftwareTpm(boot(), OWN)


def test_a_log_is_worth_what_it_explains() -> None:
    values = {n: GOOD.registers[n] for n in range(16)}
    log = gzip.compress(pack_log(GOOD.events))
    assert log_worth(log, values).endswith(
        "they explain the registers 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    )
    assert "do not explain register 9" in log_worth(log, {**values, 9: bytes(32)})
    assert log_worth(b"", values) == "none was sent"
    assert "cannot read event log" in log_worth(b"junk", values)
