"""The exchange in which a node learns its identity."""

# ruff: noqa: F403

from edgevirt.wire.gen.eveuuid.eveuuid_pb2 import *
