"""Vocabulary that the other packages share: hashes, cipher blocks, network names."""

# ruff: noqa: F403

from edgevirt.wire.gen.evecommon.acipherinfo_pb2 import *
from edgevirt.wire.gen.evecommon.devmodelcommon_pb2 import *
from edgevirt.wire.gen.evecommon.evecommon_pb2 import *
from edgevirt.wire.gen.evecommon.netcmn_pb2 import *
