"""The conversation with a local profile server."""

# ruff: noqa: F403

from edgevirt.wire.gen.profile.local_profile_pb2 import *
from edgevirt.wire.gen.profile.network_pb2 import *
from edgevirt.wire.gen.profile.signal_pb2 import *
