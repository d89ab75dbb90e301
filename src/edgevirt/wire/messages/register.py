"""A new node's first message."""

# ruff: noqa: F403

from edgevirt.wire.gen.register.register_pb2 import *
