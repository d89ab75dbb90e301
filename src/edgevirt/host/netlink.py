"""The one importer of pyroute2, of which the node needs three protocols out of thirty.

The package's top imports all of them: some eight megabytes, in every process. So its parts are
imported by name, below a top that is empty; and what they in turn import for queueing disciplines,
for tests of programs that use pyroute2, and for other processes is not there while they do.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Final

from edgevirt.runtime.imports import without

_PACKAGE: Final = "pyroute2"
_UNUSED: Final = (
    *("pyroute2.netlink.rtnl.tcmsg", "pyroute2.requests.tc", "pyroute2.iproute.ipmock"),
    "pyroute2.netlink.rt_files",  # names in /etc/iproute2: we give numbers
    *("unittest", "multiprocessing"),
)


def _empty_top() -> None:
    found = importlib.util.find_spec(_PACKAGE)
    assert found is not None
    top = types.ModuleType(_PACKAGE)
    top.__path__ = list(found.submodule_search_locations or ())
    top.__spec__ = found
    sys.modules[_PACKAGE] = top


if _PACKAGE not in sys.modules:
    _empty_top()

with without(*_UNUSED):
    from pyroute2.conntrack import Conntrack as Conntrack
    from pyroute2.iproute.linux import IPRoute as IPRoute
    from pyroute2.netlink.exceptions import NetlinkError as NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple as NFCTAttrTuple
