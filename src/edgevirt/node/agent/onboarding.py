"""How a node becomes known: certificates, registration, its UUID (EVE API v2)."""

from __future__ import annotations

import base64
import datetime
import logging
import math
import uuid

from google.protobuf.message import DecodeError

from edgevirt.model.ids import NodeId
from edgevirt.model.node import AgentState, SigningKey
from edgevirt.node.agent.outcome import Failure, in_words, onboarding_delay
from edgevirt.node.agent.state import Line
from edgevirt.wire.messages import register

_log = logging.getLogger(__name__)
ASK_AGAIN = 600.0
"""Seconds, by the node's pace, at least between two questions for the UUID once there is one."""


class Asking:
    """When a node that had a UUID asks for one. `pace`: of all that waits."""

    def __init__(self, pace: float) -> None:
        self._gap = ASK_AGAIN * pace
        self._next = -math.inf
        self._told = 0.0

    def is_due(self, now: float, monotonic: float) -> bool:
        """Once in a while; whoever is told so asks. `now`: wall clock."""
        if monotonic < self._next:
            return False
        self._next, self._told = monotonic + self._gap, now + self._gap
        return True

    def forget(self) -> None:
        """It was let in anew: should it be forgotten once more it asks at once."""
        self._next = -math.inf

    def in_words(self) -> str:
        moment = datetime.datetime.fromtimestamp(self._told, datetime.UTC)
        return f"it asks to be let in again at {moment:%Y-%m-%dT%H:%M:%SZ}"


async def onboard(line: Line) -> None:
    """Returns when the node has a UUID; asks for as long as it takes. One that had it before has
    reached nobody by that: whether it is online the next poll tells.
    """
    if line.node is not None:
        _log.info("onboarded before, as %s", line.node)
        return
    attempts = 0
    while line.node is None:
        try:
            await line.refresh_certificates()
            refusal = await _register(line)
            await _learn_uuid(line, refusal)
        except Failure as failure:
            attempts += 1
            delay = onboarding_delay(attempts) * line.context.settings.pace
            _log.warning("%s; again in %.0f s", failure, delay)
            await line.tell(AgentState.ONBOARDING, trouble=line.worse(failure, delay))
            await line.pause(delay, line.onboarding_bell)
    await line.tell(AgentState.ONLINE, trouble=None)
    _log.info("onboarded as %s", line.node)


async def _register(line: Line) -> int:
    """The status of the controller's refusal, 0 when there was none.

    A refusal is not the end: only the UUID's request tells whether the node is known.
    """
    if not line.identity.onboarding_cert:
        return 0
    message = register.ZRegisterMsg(
        pemCert=base64.b64encode(line.identity.device_cert.encode()),
        serial=line.identity.serial,
        softSerial=line.identity.soft_serial,
    )
    reply = await line.link.post(
        "/register", message.SerializeToString(), key=SigningKey.ONBOARDING
    )
    return 0 if reply.status in {200, 201} else reply.status


async def _learn_uuid(line: Line, refusal: int) -> None:
    reply = await line.link.post("/uuid", b"", sealed=True)
    if reply.status != 200:
        status = refusal or reply.status
        raise Failure(f"cannot onboard: {in_words(status)}", status)
    answer = register_uuid(reply.body)
    if answer != line.node:
        line.checkpoint.remember(node=answer)
    line.node = answer


def register_uuid(body: bytes) -> NodeId:
    """Raises Failure for an answer without a UUID."""
    from edgevirt.wire.messages import identity

    try:
        return NodeId(str(uuid.UUID(identity.UuidResponse.FromString(body).uuid)))
    except (ValueError, DecodeError) as error:
        raise Failure(f"cannot onboard: the controller's answer holds no UUID: {error}") from error


async def ask_again(line: Line) -> bool:
    """When the controller seems to have forgotten the node: whether it was given another UUID."""
    before = line.node
    try:
        await line.refresh_certificates()
        refusal = await _register(line)
        await _learn_uuid(line, refusal)
    except Failure as failure:
        _log.warning("%s", failure)
    return line.node != before
