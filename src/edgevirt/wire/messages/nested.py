"""Apps that run inside other apps."""

# ruff: noqa: F403

from edgevirt.wire.gen.nestedappinstancemetrics.nestedappinstanceinventory_pb2 import *
from edgevirt.wire.gen.nestedappinstancemetrics.nestedappinstancelog_pb2 import *
from edgevirt.wire.gen.nestedappinstancemetrics.nestedappinstancemetrics_pb2 import *
