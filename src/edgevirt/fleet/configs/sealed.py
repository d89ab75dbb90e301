"""Configs as they go to nodes: stamped, signed, and kept for nodes that ask again."""

from __future__ import annotations

from collections import OrderedDict
from http import HTTPStatus
from typing import Final, NamedTuple

from msgspec.structs import replace

from edgevirt.fleet.configs.lineage import ConfigVersion
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.transport.replies import Response
from edgevirt.model.node import DeviceConfig
from edgevirt.wire.convert import device as convert
from edgevirt.wire.messages import config as messages

_MOST_BYTES: Final = 32 << 20


class _Sealed(NamedTuple):
    config_hash: bytes
    signing_hash: bytes
    reply: Response


class SealedConfigs:
    """One per process; a machine is its row in the registry."""

    def __init__(self, ring: KeyRing, most_bytes: int = _MOST_BYTES) -> None:
        """`most_bytes`: of all that are kept; those that were sealed first go first."""
        self._ring = ring
        self._most_bytes = most_bytes
        self._kept: OrderedDict[int, _Sealed] = OrderedDict()
        self._bytes = 0

    def find(self, row: int, config_hash: bytes) -> Response | None:
        """What was sealed last for the machine, if it is that config under today's key."""
        kept = self._kept.get(row)
        wanted = config_hash, self._ring.keys.signing_hash
        return kept.reply if kept is not None and kept[:2] == wanted else None

    def seal(self, row: int, config: DeviceConfig, version: ConfigVersion) -> Response:
        stamped = replace(config, version=str(version.number), timestamp=version.timestamp)
        response = messages.ConfigResponse(
            config=convert.to_message(stamped), configHash=version.config_hash.decode()
        )
        reply = self._sign(HTTPStatus.OK, response)
        self._keep(row, _Sealed(version.config_hash, self._ring.keys.signing_hash, reply))
        return reply

    def refuse(self, config: DeviceConfig) -> Response:
        """For a machine that is barred: not kept."""
        response = messages.ConfigResponse(config=convert.to_message(config))
        return self._sign(HTTPStatus.FORBIDDEN, response)

    def _sign(self, status: HTTPStatus, response: messages.ConfigResponse) -> Response:
        return Response(
            status, self._ring.keys.seal(response.SerializeToString(deterministic=True))
        )

    def _keep(self, row: int, sealed: _Sealed) -> None:
        old = self._kept.pop(row, None)
        if old is not None:
            self._bytes -= len(old.reply.body)
        self._kept[row] = sealed
        self._bytes += len(sealed.reply.body)
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.reply.body)
