"""The node's reports on its state: everything a controller is told."""

# ruff: noqa: F403

from edgevirt.wire.gen.info.bond_pb2 import *
from edgevirt.wire.gen.info.cert_pb2 import *
from edgevirt.wire.gen.info.common_pb2 import *
from edgevirt.wire.gen.info.edge_node_cluster_pb2 import *
from edgevirt.wire.gen.info.hardware_pb2 import *
from edgevirt.wire.gen.info.info_pb2 import *
from edgevirt.wire.gen.info.ntpsources_pb2 import *
from edgevirt.wire.gen.info.patch_envelope_pb2 import *
from edgevirt.wire.gen.info.pnac_pb2 import *
