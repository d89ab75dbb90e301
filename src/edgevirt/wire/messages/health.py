"""Wear and error counters of the hardware."""

# ruff: noqa: F403

from edgevirt.wire.gen.hardwarehealth.hardware_health_pb2 import *
