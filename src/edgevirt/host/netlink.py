"""The one importer of pyroute2, of which the node needs three protocols out of thirty.

The package's top imports all of them: some eight megabytes, in every process. So its parts are
imported by name, below a top that is empty.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Final

_PACKAGE: Final = "pyroute2"


def _empty_top() -> None:
    found = importlib.util.find_spec(_PACKAGE)
    assert found is not None
    top = types.ModuleType(_PACKAGE)
    top.__path__ = list(found.submodule_search_locations or ())
    top.__spec__ = found
    sys.modules[_PACKAGE] = top


if _PACKAGE not in sys.modules:
    _empty_top()

from pyroute2.conntrack import Conntrack as Conntrack  # noqa: E402
from pyroute2.iproute.linux import IPRoute as IPRoute  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError as NetlinkError  # noqa: E402
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple as NFCTAttrTuple  # noqa: E402
