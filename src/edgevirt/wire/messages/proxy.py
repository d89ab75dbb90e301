"""Requests that the controller passes on for a node."""

# ruff: noqa: F403

from edgevirt.wire.gen.proxy.scep_pb2 import *
