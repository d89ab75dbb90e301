"""What is told of an app: its state in EVE's terms, and in words. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from edgevirt.model.app import AppInstanceStatus
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.domain import ENDED, Domain, DomainStatus
from edgevirt.node.apps import rollback, snapshots
from edgevirt.node.apps.facts import Facts, Step, World, is_down, is_live

_DOMAIN_WORDS = {
    SwState.BOOTING: "starting",
    SwState.RUNNING: "running",
    SwState.HALTING: "stopping",
    SwState.HALTED: "waiting to be started again",
    SwState.BROKEN: "cannot run",
}


def make_status(facts: Facts, step: Step, world: World) -> AppInstanceStatus:
    before, domain = facts.before, facts.domain
    told = step.applied.domain if is_live(step.applied, world.boot) else None
    state, what = _state(facts, step, told)
    running = state == SwState.RUNNING and domain is not None
    trouble = _trouble(facts, step, told, world)
    settled = running and domain is not None and domain.generation == step.applied.generation
    done = step.applied.app if settled or before is None or not facts.wanted.activate else before
    version = facts.wanted.version
    if step.changes.unordered or snapshots.is_between(step.applied):
        version = step.applied.app.version
    return AppInstanceStatus(
        id=facts.wanted.id,
        name=facts.wanted.name,
        state=state,
        since=before.since if before is not None and before.state == state else world.now,
        what=what,
        version=version,
        activated=running,
        progress=step.wait.progress if step.wait is not None else 0,
        ips=_addresses(facts) if told is not None and told.activate else (),
        boot_time=domain.boot_time if told is not None and domain is not None else 0.0,
        restarts=domain.crashes if told is not None and domain is not None else 0,
        restart_counter=done.restart_counter,
        purge_counter=done.purge_counter,
        app_num=facts.number,
        snapshots=tuple(snapshots.reports(step.applied, facts, world.now)),
        trouble=_continued(trouble, before),
        end=_end(told, domain, trouble),
    )


def make_leaving_status(before: AppInstanceStatus, now: float) -> AppInstanceStatus:
    """Of an app that is no longer wanted, until its domain and its network are gone."""
    since = before.since if before.state == SwState.HALTING else now
    return AppInstanceStatus(
        id=before.id,
        name=before.name,
        state=SwState.HALTING,
        since=since,
        what="being removed",
        version=before.version,
        restart_counter=before.restart_counter,
        purge_counter=before.purge_counter,
        app_num=before.app_num,
        snapshots=before.snapshots,
    )


def _state(facts: Facts, step: Step, told: Domain | None) -> tuple[SwState, str]:
    wait = step.wait
    if told is None:
        if wait is not None:
            return wait.state, wait.what
        return SwState.INSTALLED, "stopped"
    if is_down(step.applied, facts.domain):
        if wait is not None:
            return wait.state, wait.what
        return SwState.HALTED, "stopped"
    if not told.activate:
        return SwState.HALTING, "stopping"
    domain = facts.domain
    if domain is None or _is_behind(domain, told):
        return SwState.BOOTING, "starting"
    what = _DOMAIN_WORDS[domain.state]
    if wait is not None:
        what = f"{what}; {step.moving}: {wait.what}"
    elif step.changes.staged:
        what = f"{what}; changes wait for a restart"
    return domain.state, what


def _is_behind(domain: DomainStatus, told: Domain) -> bool:
    """domains has not come to what it was told last."""
    if domain.state == SwState.HALTING:
        return False
    stopped_before = domain.state == SwState.HALTED and domain.trouble is None
    return stopped_before or domain.generation != told.generation


def _trouble(facts: Facts, step: Step, told: Domain | None, world: World) -> Trouble | None:
    """The worst first: it doesn't run, it cannot go on, something of it is refused, it crashed."""
    domain, network, now = facts.domain, facts.network, world.now
    of_domain = domain.trouble if told is not None and domain is not None else None
    if of_domain is not None and domain is not None and domain.state != SwState.RUNNING:
        return of_domain
    if step.wait is not None and step.wait.trouble is not None:
        return step.wait.trouble
    if step.changes.unordered:
        return Trouble(why="; ".join(step.changes.unordered), since=now)
    if step.changes.warned:
        hint = "it is applied when the app is restarted"
        why = step.changes.warned
        return Trouble(why=why, since=now, severity=Severity.WARNING, hint=hint)
    if told is not None and told.activate and network is not None and network.trouble is not None:
        return network.trouble
    of_app = of_domain or rollback.complaint(facts, now)
    return of_app or _without_tpm(told, world) or _short_of_processors(told, world)


def _end(
    told: Domain | None, domain: DomainStatus | None, trouble: Trouble | None
) -> Trouble | None:
    """What else is to be told of it must not hide that it ended by itself."""
    of_domain = domain.trouble if told is not None and domain is not None else None
    if of_domain is None or of_domain == trouble or not of_domain.why.startswith(ENDED):
        return None
    return of_domain


def _without_tpm(told: Domain | None, world: World) -> Trouble | None:
    """It runs, but not with all that it asks for."""
    if told is None or not told.tpm or world.capacity is None or not world.capacity.no_tpm:
        return None
    why = f"runs without a virtual TPM: {world.capacity.no_tpm}"
    return Trouble(why=why, since=world.now, severity=Severity.NOTICE)


def _short_of_processors(told: Domain | None, world: World) -> Trouble | None:
    """Shared processors may be promised more than once, as EVE has it; this is said of it."""
    has = world.capacity.cpus if world.capacity is not None else 0
    if told is None or told.cpus or not 0 < has < told.vcpus:
        return None
    why = f"has {has} of the {told.vcpus} CPUs that it asks for: the node has no more"
    return Trouble(why=why, since=world.now, severity=Severity.NOTICE)


def _continued(trouble: Trouble | None, before: AppInstanceStatus | None) -> Trouble | None:
    """The same trouble as before began when it did."""
    known = None if before is None else before.trouble
    if trouble is None or known is None or known.why != trouble.why:
        return trouble
    return replace(trouble, since=min(known.since, trouble.since))


def _addresses(facts: Facts) -> tuple[tuple[str, str], ...]:
    if facts.network is None:
        return ()
    return tuple((vif.name, vif.ip) for vif in facts.network.vifs if vif.ip)
