"""What nodes report, kept durably: info, metrics, logs, flow logs, hardware health."""

from edgevirt.fleet.telemetry.archive import Telemetry
from edgevirt.fleet.telemetry.records import (
    DEFAULT_QUOTAS,
    Quota,
    Record,
    Stream,
    Unavailable,
)

__all__ = ["DEFAULT_QUOTAS", "Quota", "Record", "Stream", "Telemetry", "Unavailable"]
