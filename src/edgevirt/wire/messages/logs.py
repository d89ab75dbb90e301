"""Log entries and their bundles."""

# ruff: noqa: F403

from edgevirt.wire.gen.logs.log_pb2 import *
