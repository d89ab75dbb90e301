"""Counters and gauges."""

# ruff: noqa: F403

from edgevirt.wire.gen.metrics.metrics_pb2 import *
from edgevirt.wire.gen.metrics.nestedappruntimemetrics_pb2 import *
