"""The signed envelope's own messages."""

# ruff: noqa: F403

from edgevirt.wire.gen.auth.auth_pb2 import *
