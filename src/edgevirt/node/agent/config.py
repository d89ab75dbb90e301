"""Polling the config, judging it, keeping it, publishing it (EVE API v2, `config`)."""

from __future__ import annotations

import logging

import msgspec
from google.protobuf.message import DecodeError

from edgevirt.model import kinds
from edgevirt.model.ids import NodeId
from edgevirt.model.node import AgentState, DeviceConfig, Operation
from edgevirt.node.agent import repair
from edgevirt.node.agent.checkpoint import SavedConfig
from edgevirt.node.agent.link import Link, Reply, open_verified
from edgevirt.node.agent.onboarding import Asking, ask_again
from edgevirt.node.agent.outcome import Failure, Unverified, in_words
from edgevirt.node.agent.properties import number, resolve
from edgevirt.node.agent.state import Line
from edgevirt.runtime import release
from edgevirt.wire.controller_certs import ControllerCerts
from edgevirt.wire.convert import device
from edgevirt.wire.errors import WireError
from edgevirt.wire.messages import config

_log = logging.getLogger(__name__)

TIMER = "timer.config.interval"
METRICS_TIMER = "timer.metric.interval"
LEAST_PAUSE = 5.0
STEADY = 600.0
"""Seconds."""
FAREWELL = 3.0
"""Seconds to tell the controller before a reboot or a shutdown."""


class Rejected(Exception):
    """«cannot use the config: why». The one in force stays in force."""


async def load_checkpoint(line: Line) -> None:
    """At start: the last good config, so that apps run before, or without, the controller."""
    facts = line.checkpoint.facts
    if facts.certificates:
        try:
            line.link.trust(facts.certificates, line.context.clock.now())
            await line.tell_certificates(facts.certificates)
        except Failure as failure:
            _log.warning("%s; they are fetched anew", failure)
    boot = line.boot()
    for name, saved in line.checkpoint.configs(after_crash=boot is not None and boot.reason.crash):
        try:
            wanted, config_hash = _verified_again(line, saved)
        except (Failure, Rejected, WireError, DecodeError) as error:
            _log.error("cannot use the saved %s: %s", name, error)
            continue
        line.node = line.node or wanted.id
        line.config_hash = config_hash
        await _publish(line, wanted)
        await line.tell(config_from="checkpoint")
        _log.info("started from the saved %s of version %s", name, wanted.version)
        return


def _verified_again(line: Line, saved: SavedConfig) -> tuple[DeviceConfig, str]:
    """The disk is not believed: the envelope must verify, by certificates that lead to our root.

    With the controller's hash of it: asked with that from the start, it can tell whether it knows.
    """
    link = line.link
    before = link.trusted
    try:
        trusted = link.trust(saved.certificates, saved.at)
    finally:
        link.trusted = before
    response = config.ConfigResponse.FromString(open_verified(saved.envelope, trusted))
    return _parsed(response, line.node), response.configHash


_FORGOTTEN = frozenset({400, 401, 404})
"""Answers of a controller that does not know the node: EVE's 400 or 404, our fleet's 401."""


async def poll(line: Line) -> None:
    """Never returns."""
    asking = Asking(line.context.settings.pace)
    while True:
        asks = False
        try:
            status = await _poll_once(line)
        except Failure as failure:
            if isinstance(failure, Unverified):
                line.link.counts.unverified += 1
            delay = _pause(line)
            _log.warning("%s; again in %.0f s", failure, delay)
            trouble = line.worse(failure, delay)
            if failure.status in _FORGOTTEN:
                clock = line.context.clock
                asks = asking.is_due(clock.now(), clock.monotonic())
                trouble = msgspec.structs.replace(trouble, hint=asking.in_words())
            await line.tell(AgentState.OFFLINE, trouble=trouble)
        else:
            delay = _pause(line)
            await _tell_contact(line, status)
            _keep_steady(line)
            await _carry_out(line)
        if asks and await ask_again(line):
            asking.forget()
        await line.pause(delay, line.config_bell)


def _pause(line: Line) -> float:
    least = LEAST_PAUSE * line.context.settings.pace * line.jitter()
    return max(least, line.interval(TIMER, 0.3, 1.0))


def _keep_steady(line: Line) -> None:
    """A config under which nothing bad happened for a while is the one for after a crash."""
    accepted = line.accepted_at
    if accepted is None or line.context.clock.monotonic() < accepted + STEADY:
        return
    line.accepted_at = None
    try:
        line.checkpoint.keep_steady()
    except OSError as error:
        _log.error("cannot keep the config that proved itself: %s", error)


async def _tell_contact(line: Line, status: int) -> None:
    refused = status == 403
    if refused:
        _log.info("the controller wants this node attested")
        line.attested = False
        line.integrity_token = b""
        line.attest_bell.ring()
    line.refused = refused
    await line.tell(AgentState.ONLINE, trouble=None if not _bad_config(line) else line.trouble)


def _bad_config(line: Line) -> bool:
    return line.trouble is not None and line.trouble.why.startswith("cannot use the config")


async def _poll_once(line: Line) -> int:
    """The status; 304 also for an unchanged config that came with 200. Raises Failure."""
    reply = await _ask(line)
    if reply.status == 403:
        await repair.heed(line, reply.body)
        return reply.status
    if reply.status == 304:
        await _confirmed(line)
        return reply.status
    if reply.status != 200:
        raise Failure(f"cannot get the config: {in_words(reply.status)}", reply.status)
    opened = open_verified(reply.body, _require_trust(line.link))
    try:
        response = config.ConfigResponse.FromString(opened)
    except DecodeError as error:
        raise Failure(f"cannot read the config: {error}") from error
    if response.configHash == line.config_hash:
        await _confirmed(line)
        return 304
    line.config_hash = response.configHash
    stamp = response.config.config_timestamp
    line.received_config = stamp.seconds + stamp.nanos / 1e9
    try:
        await _accept(line, response, reply.body)
    except Rejected as error:
        _log.error("%s", error)
        await line.tell(trouble=line.worse(Failure(str(error)), 0.0))
        line.info_bell.ring()
    else:
        await repair.forget(line)  # after it, so that what both want is not begun anew
    return 200


async def _confirmed(line: Line) -> None:
    """The config in force is the controller's, also one that came from the disk."""
    if line.config_from == "checkpoint" and not _bad_config(line):
        line.accepted_at = line.context.clock.monotonic()
        await line.tell(config_from="controller")
    await repair.forget(line)


async def _ask(line: Line) -> Reply:
    """The answer with its envelope still closed: that is what is kept."""
    request = config.ConfigRequest(
        configHash=line.config_hash, integrity_token=line.integrity_token
    ).SerializeToString()
    for fresh in (False, True):
        reply = await line.link.post(f"/id/{line.node}/config", request)
        if reply.status == 403:
            return reply
        if reply.status != 200:
            return Reply(reply.status, b"")
        try:
            open_verified(reply.body, _require_trust(line.link))
        except Unverified as error:
            if fresh or not error.stale:
                raise
            _log.info("the controller signs with another certificate: fetching the list")
            await line.refresh_certificates()
        else:
            return reply
    raise Failure("cannot get the config: the controller's certificates keep changing")


def _require_trust(link: Link) -> ControllerCerts:
    if link.trusted is None:
        raise Unverified("cannot verify the config: no certificates of the controller", stale=True)
    return link.trusted


async def _accept(line: Line, response: config.ConfigResponse, raw: bytes) -> None:
    """Judges, keeps, publishes, in this order. Raises Rejected; then nothing has changed."""
    wanted = _parsed(response, line.node)
    if wanted.timestamp and wanted.timestamp < line.processed_config:
        raise Rejected(
            f"cannot use the config: it is older ({wanted.timestamp:.0f}) than the one in force "
            f"({line.processed_config:.0f})"
        )
    saved = SavedConfig(
        envelope=raw,
        certificates=line.checkpoint.facts.certificates,
        at=line.context.clock.now(),
    )
    try:
        line.checkpoint.save_config(saved)
    except OSError as error:
        raise Rejected(f"cannot use the config: it can't be kept: {error}") from error
    line.accepted_at = line.context.clock.monotonic()
    await _publish(line, wanted)
    await line.tell(config_from="controller", trouble=None)
    _log.info("config version %s accepted", wanted.version)


def _parsed(response: config.ConfigResponse, node: NodeId | None) -> DeviceConfig:
    try:
        wanted = device.from_message(response.config)
    except WireError as error:
        raise Rejected(f"cannot use the config: {error}") from error
    if node is not None and wanted.id != node:
        raise Rejected(f"cannot use the config: it is another node's ({wanted.id})")
    return wanted


async def _publish(line: Line, wanted: DeviceConfig) -> None:
    before, line.properties = line.properties, resolve(wanted.properties, line.properties)
    if number(before, METRICS_TIMER) != number(line.properties, METRICS_TIMER):
        line.metrics_bell.ring()
    line.link.send_seconds = float(number(line.properties, "timer.send.timeout"))
    line.link.dial_seconds = float(number(line.properties, "timer.dial.timeout"))
    await line.context.store.put(kinds.DEVICE_CONFIG, "node", wanted)
    await release(line.context.store, [kinds.DEVICE_CONFIG])
    _heed_counters(line, wanted)
    line.received_config = line.processed_config = wanted.timestamp
    if line.epoch != wanted.epoch:
        line.epoch = wanted.epoch
        line.resend()
    if wanted.controller_cert_hash:
        known = line.checkpoint.facts.certificates_hash
        if known != wanted.controller_cert_hash:
            line.certs_bell.ring()
            line.checkpoint.remember(certificates_hash=wanted.controller_cert_hash)
    line.report_device()


def _heed_counters(line: Line, wanted: DeviceConfig) -> None:
    """The first counter ever seen is only recorded; any other value later triggers once."""
    facts = line.checkpoint.facts
    for what, counter, known in (
        ("reboot", wanted.reboot_counter, facts.reboot_counter),
        ("shutdown", wanted.shutdown_counter, facts.shutdown_counter),
    ):
        if counter == known:
            continue
        line.checkpoint.remember(**{f"{what}_counter": counter})
        if counter is not None and known is not None:
            line.wanted_operation = Operation(
                what=what,
                counter=counter,
                why=f"{what} asked for by the controller (counter {counter})",
                at=line.context.clock.now(),
            )


async def _carry_out(line: Line) -> None:
    """What the node is to do as a whole, once the controller had a moment to hear of it."""
    if line.wanted_operation is None:
        return
    line.report_device()
    await line.pause(FAREWELL)
    operation, line.wanted_operation = line.wanted_operation, None
    await line.tell(operation=operation)


async def watch_certificates(line: Line) -> None:
    """Never returns: fetches the list when it is due or known to have changed."""
    while True:
        delay = line.interval("timer.cert.interval", 0.3, 1.0)
        await line.pause(delay, line.certs_bell)
        while True:
            try:
                await line.refresh_certificates()
                break
            except Failure as failure:
                _log.warning("%s; again in 120 s", failure)
                await line.pause(120.0, line.certs_bell)
