"""The node's desired state: everything a controller sends down."""

# ruff: noqa: F403

from edgevirt.wire.gen.config.appconfig_pb2 import *
from edgevirt.wire.gen.config.baseosconfig_pb2 import *
from edgevirt.wire.gen.config.compound_devconfig_pb2 import *
from edgevirt.wire.gen.config.devcommon_pb2 import *
from edgevirt.wire.gen.config.devconfig_pb2 import *
from edgevirt.wire.gen.config.devmodel_pb2 import *
from edgevirt.wire.gen.config.edge_node_cluster_pb2 import *
from edgevirt.wire.gen.config.edgeview_pb2 import *
from edgevirt.wire.gen.config.fw_pb2 import *
from edgevirt.wire.gen.config.netconfig_pb2 import *
from edgevirt.wire.gen.config.netinst_pb2 import *
from edgevirt.wire.gen.config.patch_envelope_pb2 import *
from edgevirt.wire.gen.config.scep_pb2 import *
from edgevirt.wire.gen.config.storage_pb2 import *
from edgevirt.wire.gen.config.vm_pb2 import *
