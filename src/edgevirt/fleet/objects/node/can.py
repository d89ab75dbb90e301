"""How a CAN bus of a machine is set."""

from __future__ import annotations

from collections.abc import Iterator

from edgevirt.fleet.objects.base.object import ApiStruct
from edgevirt.fleet.objects.base.problems import Problem, invalid, required
from edgevirt.model.can import FASTEST, FASTEST_DATA, SAMPLE_POINT

_CAN = "CAN"


class AdapterCan(ApiStruct, frozen=True, kw_only=True):
    """How a CAN bus is set before an app has it."""

    bitrate: int = 0
    """Bits a second: `125000`, `500000`."""
    data_bitrate: int = 0
    """Of the data of CAN FD. 0: classical CAN."""
    sample_point: str = ""
    """Where a bit is read, `0.875`. Empty: what is usual at its bit rate."""
    data_sample_point: str = ""
    """The same for data of CAN FD."""
    listen_only: bool = False
    """The node never sends, not even an acknowledgement."""


def settings(can: AdapterCan | None) -> tuple[tuple[str, str], ...]:
    """By the names that a node has for them (`model.can`)."""
    if can is None:
        return ()
    found = {
        "bitrate": str(can.bitrate or ""),
        "dbitrate": str(can.data_bitrate or ""),
        "fd": "on" if can.data_bitrate else "",
        "sample-point": can.sample_point,
        "dsample-point": can.data_sample_point,
        "listen-only": "on" if can.listen_only else "",
    }
    return tuple(sorted((name, value) for name, value in found.items() if value))


def check_can(path: str, can: AdapterCan, type: str) -> Iterator[Problem]:
    """`type`: of the adapter."""
    if type != _CAN:
        why = "a CAN bus has it; a logical one (LCAN) is set where the bus is, a virtual one not"
        yield invalid(path, type, why)
    elif not can.bitrate:
        yield required(f"{path}.bitrate", "bits a second")
    elif not 0 < can.bitrate <= FASTEST:
        yield invalid(f"{path}.bitrate", can.bitrate, f"must be at most {FASTEST} bits a second")
    elif not 0 <= can.data_bitrate <= FASTEST_DATA:
        why = f"must be at most {FASTEST_DATA} bits a second"
        yield invalid(f"{path}.dataBitrate", can.data_bitrate, why)
    else:
        for field, point, rate in (
            ("samplePoint", can.sample_point, can.bitrate),
            ("dataSamplePoint", can.data_sample_point, can.data_bitrate),
        ):
            if point and not rate:
                yield invalid(f"{path}.{field}", point, "needs a dataBitrate")
            elif point and not SAMPLE_POINT.fullmatch(point):
                yield invalid(f"{path}.{field}", point, "must be like 0.875")
