"""What the agent's tasks share: who the node is, how the line is, what wakes whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import msgspec

from edgevirt.model import kinds
from edgevirt.model.base import Trouble
from edgevirt.model.ids import NodeId
from edgevirt.model.machine import Boot
from edgevirt.model.node import (
    AgentState,
    AgentStatus,
    ControllerCertificates,
    Fault,
    Identity,
    Operation,
    Property,
)
from edgevirt.node.agent.attest_steps import Step
from edgevirt.node.agent.checkpoint import Checkpoint
from edgevirt.node.agent.link import Link
from edgevirt.node.agent.outcome import Failure, fault_of
from edgevirt.node.agent.properties import number
from edgevirt.node.service import Context
from edgevirt.wire import certificates
from edgevirt.wire.messages import certs

Jitter = Callable[[], float]
"""In [0, 1)."""


class Bell:
    """Wakes a task that sleeps before its time."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, sleep: asyncio.Task[None]) -> None:
        """Until it rings or `sleep` ends."""
        ring = asyncio.create_task(self._event.wait())
        try:
            await asyncio.wait({ring, sleep}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ring.cancel()
            sleep.cancel()
            self._event.clear()


class Line(msgspec.Struct):
    """The agent's running state; what must outlive a restart is in `checkpoint`."""

    context: Context
    identity: Identity
    link: Link
    checkpoint: Checkpoint
    jitter: Jitter = random.random
    node: NodeId | None = None
    integrity_token: bytes = b""
    attested: bool = False
    refused: bool = False
    attestation: Step = Step.CERTIFICATES
    attest_trouble: str = ""
    """Why the last try failed; empty: it did not."""
    config_hash: str = ""
    config_from: str = ""
    received_config: float = 0.0
    processed_config: float = 0.0
    accepted_at: float | None = None
    """Monotonic, of a config that has yet to prove itself."""
    epoch: int = 0
    wanted_operation: Operation | None = None
    """Asked for, not yet told to who carries it out."""
    operation: Operation | None = None
    trouble: Trouble | None = None
    fault: Fault = Fault.NONE
    status: AgentStatus | None = None
    config_bell: Bell = msgspec.field(default_factory=Bell)
    attest_bell: Bell = msgspec.field(default_factory=Bell)
    certs_bell: Bell = msgspec.field(default_factory=Bell)
    info_bell: Bell = msgspec.field(default_factory=Bell)
    metrics_bell: Bell = msgspec.field(default_factory=Bell)
    onboarding_bell: Bell = msgspec.field(default_factory=Bell)
    properties: Mapping[str, Property] = msgspec.field(default_factory=dict)
    """Of the config in force, at once; to the others the store tells them a moment later."""
    resend: Callable[[], None] = lambda: None
    """Tells the controller everything again."""
    report_device: Callable[[], None] = lambda: None

    def boot(self) -> Boot | None:
        """How this run of the node began, where anybody wrote it down."""
        try:
            return msgspec.json.decode(self.context.paths.boot_record.read_bytes(), type=Boot)
        except (OSError, msgspec.DecodeError):
            return None

    # -- time --

    async def pause(self, seconds: float, bell: Bell | None = None) -> None:
        """Sleeps; a ring of `bell` ends it early."""
        sleep = asyncio.create_task(self.context.clock.sleep(seconds))
        await (bell or Bell()).wait(sleep)

    def interval(self, name: str, least: float, most: float) -> float:
        """Seconds: a timer property, times something between `least` and `most`."""
        seconds = number(self.properties, name) * self.context.settings.pace
        return seconds * (least + (most - least) * self.jitter())

    # -- certificates --

    async def refresh_certificates(self) -> None:
        """Fetches, verifies, remembers and tells the controller's certificates. Raises Failure."""
        published = await self.link.fetch_certificates()
        self.link.trust(published, self.context.clock.now())
        self.checkpoint.remember(certificates=published)
        await self.tell_certificates(published)

    async def tell_certificates(self, published: bytes) -> None:
        """Keys of before stay known for as long as the config has secrets under them."""
        store = self.context.store
        told = _as_noun(published)
        before = await store.get(kinds.CONTROLLER_CERTIFICATES, "controller")
        contexts = (await store.list(kinds.CIPHER_CONTEXT)).values()
        missing = {item.value.controller_cert_hash for item in contexts} - dict(told.ecdh).keys()
        kept = [entry for entry in before.value.ecdh if entry[0] in missing] if before else []
        told = msgspec.structs.replace(told, ecdh=(*told.ecdh, *kept))
        await store.put(kinds.CONTROLLER_CERTIFICATES, "controller", told)

    # -- status --

    async def tell(self, state: AgentState | None = None, **changes: object) -> None:
        """Publishes how it is; `since` moves only when the state does."""
        for name, value in changes.items():
            setattr(self, name, value)
        before = self.status
        now = self.context.clock.now()
        state = state or (before.state if before else AgentState.STARTING)
        since = before.since if before and before.state is state else now
        self.status = AgentStatus(
            state=state,
            since=since,
            node=self.node,
            controller=self.link.server,
            config_hash=self.config_hash,
            config_from=self.config_from,
            last_contact=self.link.counts.last_success,
            attested=self.attested,
            refused=self.refused,
            operation=self.operation,
            trouble=self.trouble,
            fault=self.fault if self.trouble is not None else Fault.NONE,
        )
        told = msgspec.structs.replace(self.status, last_contact=0.0)
        same = before and msgspec.structs.replace(before, last_contact=0.0) == told
        if not same:
            await self.context.store.put(kinds.AGENT_STATUS, "node", self.status)

    def worse(self, failure: Failure, retry_in: float) -> Trouble:
        """The trouble after one more failure, with the first one's time."""
        now = self.context.clock.now()
        before = self.trouble
        self.fault = fault_of(failure)
        return Trouble(
            why=str(failure),
            since=before.since if before else now,
            attempts=before.attempts + 1 if before else 1,
            retry_at=now + retry_in,
        )


def _as_noun(published: bytes) -> ControllerCertificates:
    listed = certs.ZControllerCert.FromString(published)
    signing = next(c for c in listed.certs if c.type == certs.CERT_TYPE_CONTROLLER_SIGNING)
    exchanges = tuple(
        (entry.certHash, entry.cert.decode())
        for entry in listed.certs
        if entry.type == certs.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE
    )
    return ControllerCertificates(signing=signing.cert.decode(), ecdh=exchanges)


def root_hash(context: Context) -> bytes:
    """SHA-256 of the root certificate's file."""
    return certificates.pem_hash(context.paths.root_certificate.read_bytes())
