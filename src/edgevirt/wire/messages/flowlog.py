"""Connections and name lookups of apps."""

# ruff: noqa: F403

from edgevirt.wire.gen.flowlog.flowlog_pb2 import *
