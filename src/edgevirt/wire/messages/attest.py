"""Attestation messages: what a node sends to prove its state, and what it gets for it."""

# ruff: noqa: F403

from edgevirt.wire.gen.attest.attest_pb2 import *
