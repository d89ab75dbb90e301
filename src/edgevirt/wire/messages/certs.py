"""Certificates and their lists."""

# ruff: noqa: F403

from edgevirt.wire.gen.certs.certs_pb2 import *
