"""What the controller offers a node that it bars: a version of the system, in the body of its 403.

It comes as a config does, signed. Of what it says only the system is heeded, beside the config in
force, and until a config is given again: a node that lost its trust keeps its apps and their data.
"""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from edgevirt.model import kinds
from edgevirt.model.node import DeviceConfig
from edgevirt.node.agent.link import open_verified
from edgevirt.node.agent.outcome import Failure
from edgevirt.node.agent.state import Line
from edgevirt.wire.convert import device
from edgevirt.wire.errors import WireError
from edgevirt.wire.messages import config

_log = logging.getLogger(__name__)
_KEY = "node"


async def heed(line: Line, raw: bytes) -> None:
    """`raw`: the body of a refusal. One that is not what it should be changes nothing."""
    if not raw:
        return
    try:
        offered = _opened(line, raw)
    except (Failure, WireError, DecodeError, ValueError) as error:
        _log.warning("cannot use what came with the refusal: %s", error)
        return
    before = await line.context.store.get(kinds.REPAIR_CONFIG, _KEY)
    least = before.value.timestamp if before is not None else line.processed_config
    if offered.timestamp < least:
        _log.warning("cannot use what came with the refusal: it is older than what is in force")
        return
    if before is None or before.value.base_os != offered.base_os:
        version = offered.base_os.version if offered.base_os is not None else "no version"
        _log.info("barred; the controller offers %s", version)
    await line.context.store.put(kinds.REPAIR_CONFIG, _KEY, offered)


async def forget(line: Line) -> None:
    """The controller gives a config again: it is the whole truth."""
    if await line.context.store.get(kinds.REPAIR_CONFIG, _KEY) is not None:
        await line.context.store.delete(kinds.REPAIR_CONFIG, _KEY)


def _opened(line: Line, raw: bytes) -> DeviceConfig:
    trusted = line.link.trusted
    if trusted is None:
        raise ValueError("no certificates of the controller")
    response = config.ConfigResponse.FromString(open_verified(raw, trusted))
    offered = device.from_message(response.config)
    if offered.id != line.node:
        raise ValueError(f"it is another node's ({offered.id})")
    return offered
