"""Updates as they go, and as they fail, in virtual time: the planner, two slots, a boot loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from edgevirt.host.fakes.slots import IMAGE, FakeSlots
from edgevirt.model import kinds
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import (
    BaseOs,
    BaseOsStatus,
    Install,
    NodeReboot,
    Slot,
    SlotPlan,
    SlotsFound,
    SlotState,
    UpdateStep,
)
from edgevirt.model.content import ContentTreeStatus
from edgevirt.model.ids import ContentTreeId, Digest
from edgevirt.model.machine import Boot, BootReason
from edgevirt.model.node import AgentState, AgentStatus, Property
from edgevirt.model.trust import VaultState, VaultStatus
from edgevirt.node.baseos.planner import BaseOsPlanner
from edgevirt.node.baseos.restarts import FAREWELL, RestartPlanner
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import plan_once

TREE = ContentTreeId("0f4e4b5a-3f3e-4a55-9b8e-8d8f0d5b9c11")
OLD, NEW = "edgevirt-1-a-kvm-amd64", "edgevirt-2-b-kvm-amd64"
STEP = 10.0
TEST, SILENT = 600.0, 300.0


class Node:
    """One node: its slots and what is kept outlive `restart`; the rest is of one run.

    Each step of time plans, and does what the plan says as the real parts would.
    """

    def __init__(self) -> None:
        self.slots = FakeSlots(size=1 << 30)
        self.slots.contents["IMGA"] = IMAGE + OLD.encode() + b"\n"
        self.kept: dict[Kind[Any], Mapping[str, Any]] = {}
        self.now = 1_800_000_000.0
        self.mono = 5.0
        self.wanted: BaseOs | None = None
        self.tree_state = SwState.LOADED
        self.tree_size = 1000
        self.properties: dict[str, str] = {}
        self.write_percent = 50
        self.writing_fails = ""
        self.vault: VaultStatus | None = None
        self.configured = True
        """What is wanted can be told at all."""
        self._begin(Boot(at=self.now))

    # -- one run --

    def _begin(self, boot: Boot) -> None:
        self.planner = BaseOsPlanner(boot)
        self.restarts = RestartPlanner()
        self.outputs: dict[Kind[Any], Mapping[str, Any]] = dict(self.kept)
        self.agent = AgentStatus(state=AgentState.STARTING, since=self.now)
        self.found: SlotsFound | None = None
        self.installed: Install | None = None
        self.progress = 0
        self.trouble: Trouble | None = None

    def restart(self, reason: BootReason, text: str) -> None:
        """Whatever ended the run: the boot loader chooses, the supervisor tells why."""
        self.slots.restart()
        kept = (kinds.UPDATE_MEMORY, kinds.UPDATE_TIMES)
        self.kept = {kind: self.outputs.get(kind, {}) for kind in kept}
        self.mono = 5.0
        self.now += 60.0
        self._begin(Boot(at=self.now, reason=reason, text=text, count=2))

    def power_cut(self) -> None:
        self.restart(BootReason.POWER_FAIL, "the run before ended without a word")

    def online(self, *, refused: bool = False) -> None:
        source = "controller" if not refused or self.agent.config_from else "checkpoint"
        self.agent = AgentStatus(
            state=AgentState.ONLINE, since=self.now, config_from=source, refused=refused
        )

    def offline(self) -> None:
        self.agent = AgentStatus(
            state=AgentState.OFFLINE, since=self.now, config_from=self.agent.config_from
        )

    def want(self, version: str = NEW, retry: int | None = 0, *, activate: bool = True) -> None:
        self.wanted = BaseOs(
            content_tree=TREE, version=version, activate=activate, retry_counter=retry
        )

    def run(self, seconds: float, step: float = STEP) -> NodeReboot | None:
        """Until so much time has passed, or the node is to restart."""
        end = self.mono + seconds
        while self.mono <= end:
            reboot = self.step()
            if reboot is not None:
                return reboot
            self.mono += step
            self.now += step
        return None

    def step(self) -> NodeReboot | None:
        for _ in range(6):
            self._look()
            for planner in (self.restarts, self.planner) if self.configured else (self.restarts,):
                declared = {*planner.reads, *planner.owns}
                inputs = {k: v for k, v in self._inputs().items() if k in declared}
                plan = plan_once(planner, inputs, now=self.now, monotonic=self.mono)
                self.outputs.update({kind: plan.all(kind) for kind in planner.owns})
            if not self.configured:
                continue
            self._obey(self.outputs[kinds.SLOT_PLAN]["node"])
        return self.outputs[kinds.NODE_REBOOT].get("node")

    def _inputs(self) -> dict[Kind[Any], Mapping[str, Any]]:
        tree = ContentTreeStatus(
            id=TREE,
            state=self.tree_state,
            since=0.0,
            digest=Digest("sha256:" + "ab" * 32),
            path="/persist/blobs/" + "ab" * 32,
            size=self.tree_size,
        )
        properties = {name: Property(value=value) for name, value in self.properties.items()}
        return {
            kinds.BASE_OS: {"node": self.wanted} if self.wanted else {},
            kinds.CONTENT_TREE_STATUS: {TREE: tree},
            kinds.AGENT_STATUS: {"node": self.agent},
            kinds.VAULT_STATUS: {"vault": self.vault} if self.vault else {},
            kinds.PROPERTY: properties,
            kinds.SLOTS_FOUND: {"node": self.found} if self.found else {},
            **self.outputs,
        }

    def _look(self) -> None:
        states = self.slots.states()
        labels = sorted(states, key=lambda label: label != self.slots.current)
        slots = tuple(
            Slot(
                label=label,
                state=states[label],
                current=label == self.slots.current,
                version=self.slots.version(label),
                size=1 << 20,
            )
            for label in labels
        )
        self.found = SlotsFound(
            slots=slots,
            install=self.installed,
            progress=self.progress,
            installed=self.progress == 100,
            trouble=self.trouble,
        )

    def _obey(self, plan: SlotPlan) -> None:
        """As the reconciler; a write takes two looks."""
        if plan.install != self.installed:
            self.installed, self.progress, self.trouble = plan.install, 0, None
            if plan.install is not None:
                self.slots.set_states({plan.install.label: SlotState.UNUSED})
                self.slots.contents[plan.install.label] = b""
                self.progress = self.write_percent
            return
        if plan.install is not None and self.progress < 100 and self.write_percent == 50:
            if self.writing_fails:
                self.trouble = Trouble(why=self.writing_fails, since=self.now)
            else:
                content = IMAGE + plan.install.version.encode() + b"\n"
                self.slots.contents[plan.install.label] = content
                self.progress = 100
        if plan.states:
            self.slots.set_states(dict(plan.states))

    # -- what is told --

    @property
    def status(self) -> BaseOsStatus:
        status: BaseOsStatus = self.outputs[kinds.BASE_OS_STATUS]["node"]
        return status

    def doing(self) -> UpdateStep:
        return self.status.step

    @property
    def why(self) -> str:
        return self.status.trouble.why if self.status.trouble else ""

    def state(self, label: str) -> SlotState:
        return self.slots.states()[label]


@pytest.fixture
def node() -> Node:
    node = Node()
    node.online()
    return node


def updated(node: Node) -> Node:
    """The new version runs, under test; the controller has not been reached yet."""
    node.want()
    reboot = node.run(120)
    assert reboot is not None
    assert reboot.reason is BootReason.UPDATE
    node.restart(BootReason.UPDATE, reboot.why)
    assert node.slots.current == "IMGB"
    assert node.state("IMGB") is SlotState.INPROGRESS
    return node


# -- the good way --------------------------------------------------------------------------------


def test_a_good_version_is_written_tried_tested_and_kept(node: Node) -> None:
    updated(node)
    node.online()
    assert node.run(TEST - 50) is None
    assert node.doing() is UpdateStep.TESTING
    assert node.status.updating
    assert node.run(100) is None
    assert node.state("IMGB") is SlotState.ACTIVE
    assert node.state("IMGA") is SlotState.UNUSED
    assert node.doing() is UpdateStep.DONE
    assert not node.status.updating
    node.power_cut()
    assert node.slots.current == "IMGB"


def test_the_controller_has_time_to_hear_of_the_restart(node: Node) -> None:
    node.want()
    node.step()
    begun = node.now
    assert node.doing() is UpdateStep.REBOOTING
    reboot = node.run(60)
    assert reboot is not None
    assert reboot.at >= begun + FAREWELL


def test_what_is_not_to_be_activated_is_only_fetched(node: Node) -> None:
    node.want(activate=False)
    assert node.run(1000) is None
    assert node.doing() is UpdateStep.FETCHING
    assert node.state("IMGB") is SlotState.UNUSED
    assert node.slots.version("IMGB") == ""


def test_the_version_that_runs_is_not_installed_again(node: Node) -> None:
    node.want(OLD)
    assert node.run(100) is None
    assert node.doing() is UpdateStep.DONE
    assert node.slots.version("IMGB") == ""


def test_nothing_is_written_before_the_image_is_verified(node: Node) -> None:
    node.tree_state = SwState.VERIFYING
    node.want()
    assert node.run(100) is None
    assert node.doing() is UpdateStep.FETCHING
    assert node.slots.version("IMGB") == ""


# -- what is refused -----------------------------------------------------------------------------


def test_an_image_larger_than_the_slot_is_refused_before_it_is_written(node: Node) -> None:
    node.tree_size = 2 << 20
    node.want()
    assert node.run(100) is None
    assert node.doing() is UpdateStep.FAILED
    assert "2097152 bytes" in node.why


def test_an_image_for_another_architecture_is_refused(node: Node) -> None:
    node.want("edgevirt-2-b-kvm-arm64")
    assert node.run(100) is None
    assert "another architecture" in node.why


def test_what_does_not_read_back_as_written_is_never_tried(node: Node) -> None:
    node.writing_fails = "cannot install it: IMGB does not hold what was written to it"
    node.want()
    assert node.run(1000) is None
    assert node.doing() is UpdateStep.FAILED
    assert node.why == node.writing_fails
    assert node.state("IMGB") is SlotState.UNUSED
    node.writing_fails = ""
    node.want(retry=1)
    assert node.run(100) is not None


# -- the ways back: probes 1 to 3 ----------------------------------------------------------------


def test_a_power_cut_while_the_image_is_written_leaves_the_old_one(node: Node) -> None:
    node.write_percent = 49
    node.want()
    assert node.run(100) is None
    assert node.doing() is UpdateStep.WRITING
    node.power_cut()
    assert node.slots.current == "IMGA"
    node.write_percent = 50
    node.online()
    assert node.run(100) is not None, "it is begun again, not refused: it never was tried"


def test_a_power_cut_during_the_test_goes_back_and_is_told_once(node: Node) -> None:
    updated(node)
    node.online()
    node.run(100)
    node.power_cut()
    assert node.slots.current == "IMGA"
    node.online()
    assert node.run(1000) is None
    assert node.doing() is UpdateStep.FAILED
    assert "ended without a word" in node.why
    told: Mapping[str, Slot] = node.outputs[kinds.SLOT]
    assert told["IMGB"].trouble is not None
    node.restart(BootReason.REBOOT_COMMAND, "asked for")
    node.online()
    node.run(50)
    assert "ended without a word" in node.why, "a later restart is not why it failed"


def test_a_version_that_failed_is_refused_until_its_retry_counter_moves(node: Node) -> None:
    updated(node)
    node.power_cut()
    node.online()
    assert node.run(2000) is None
    node.want(retry=0)
    assert node.run(2000) is None
    node.want(retry=1)
    assert node.run(100) is not None
    assert node.status.retry_counter == 1


def test_a_version_that_is_tried_again_may_have_to_be_fetched_first_and_may_fail_again(
    node: Node,
) -> None:
    updated(node)
    node.power_cut()
    node.online()
    node.tree_state = SwState.DOWNLOADING
    node.want(retry=1)
    assert node.run(100) is None
    assert node.doing() is UpdateStep.FETCHING
    node.tree_state = SwState.LOADED
    assert node.run(100) is not None
    node.restart(BootReason.UPDATE, "update")
    node.power_cut()
    node.online()
    assert node.run(2000) is None
    assert node.doing() is UpdateStep.FAILED


def test_another_version_is_not_refused_for_the_failure_of_one(node: Node) -> None:
    updated(node)
    node.power_cut()
    node.online()
    node.want("edgevirt-3-c-kvm-amd64")
    assert node.run(100) is not None


def test_a_test_without_the_controller_goes_back_after_300_seconds(node: Node) -> None:
    updated(node)
    node.online()
    assert node.run(100) is None
    node.offline()
    assert node.run(SILENT - 50) is None
    reboot = node.run(100)
    assert reboot is not None
    assert reboot.reason is BootReason.FALLBACK
    node.restart(reboot.reason, reboot.why)
    assert node.slots.current == "IMGA"
    node.online()
    node.run(50)
    assert "did not reach the controller" in node.why


def test_a_version_that_never_reached_the_controller_goes_back(node: Node) -> None:
    updated(node)
    reboot = node.run(SILENT + 100)
    assert reboot is not None
    assert reboot.reason is BootReason.FALLBACK


def test_a_version_that_cannot_read_its_config_goes_back_in_the_time_of_the_one_before(
    node: Node,
) -> None:
    node.properties = {"timer.update.fallback.no.network": "120"}
    updated(node)
    node.configured = False
    assert node.run(100) is None
    reboot = node.run(50)
    assert reboot is not None
    assert reboot.reason is BootReason.FALLBACK


def test_outside_of_a_test_silence_is_borne_for_a_week(node: Node) -> None:
    node.want(OLD)
    node.run(100)
    node.offline()
    assert node.run(604_000, step=1000) is None
    reboot = node.run(2000)
    assert reboot is not None
    assert reboot.reason is BootReason.DISCONNECT


def test_a_short_silence_ends_without_harm(node: Node) -> None:
    updated(node)
    node.online()
    node.run(100)
    node.offline()
    node.run(SILENT - 50)
    node.online()
    assert node.run(TEST) is None
    assert node.doing() is UpdateStep.DONE


def test_a_refused_config_is_contact_but_begins_the_test_anew(node: Node) -> None:
    updated(node)
    node.online()
    node.run(TEST - 100)
    node.online(refused=True)
    assert node.run(1000) is None, "the controller answers: no way back"
    assert node.doing() is UpdateStep.TESTING
    node.online()
    node.run(TEST - 100)
    assert node.doing() is UpdateStep.TESTING
    node.run(200)
    assert node.doing() is UpdateStep.DONE


def test_a_vault_that_stays_closed_fails_the_version(node: Node) -> None:
    updated(node)
    node.vault = VaultStatus(state=VaultState.CLOSED, since=0.0)
    node.online()
    assert node.run(250) is None
    reboot = node.run(100)
    assert reboot is not None
    assert reboot.reason is BootReason.VAULT_FAILED


def test_a_version_is_not_kept_while_its_vault_is_closed(node: Node) -> None:
    node.properties = {"timer.test.baseimage.update": "30"}
    updated(node)
    node.vault = VaultStatus(state=VaultState.CLOSED, since=0.0)
    node.online()
    assert node.run(200) is None
    assert node.doing() is UpdateStep.TESTING
    node.vault = VaultStatus(state=VaultState.OPEN, since=0.0)
    assert node.run(50) is None
    assert node.doing() is UpdateStep.DONE


def test_a_clock_that_jumps_neither_ends_nor_delays_a_test(node: Node) -> None:
    updated(node)
    node.online()
    node.run(100)
    node.now += 1e8
    node.run(100)
    assert node.doing() is UpdateStep.TESTING
    node.now -= 2e8
    node.run(TEST)
    assert node.doing() is UpdateStep.DONE


# -- other wishes meanwhile ----------------------------------------------------------------------


def test_what_is_no_longer_wanted_is_no_longer_written(node: Node) -> None:
    node.write_percent = 49
    node.want()
    node.run(30)
    node.wanted = None
    assert node.run(100) is None
    assert node.doing() is UpdateStep.IDLE
    assert node.state("IMGB") is SlotState.UNUSED
    assert node.installed is None


def test_a_version_is_not_tried_when_the_wish_is_withdrawn_at_the_last_moment(node: Node) -> None:
    node.want()
    node.step()
    assert node.state("IMGB") is SlotState.UPDATING
    node.want(OLD)
    assert node.run(100) is None
    assert node.state("IMGB") is SlotState.UNUSED


def test_another_version_waits_for_the_end_of_the_test(node: Node) -> None:
    updated(node)
    node.online()
    node.want("edgevirt-3-c-kvm-amd64")
    assert node.run(TEST - 100) is None
    assert "still being tested" in node.why
    reboot = node.run(300)
    assert reboot is not None
    assert "edgevirt-3" in reboot.why
    assert node.state("IMGB") is SlotState.ACTIVE


# -- force.fallback.counter ----------------------------------------------------------------------


def test_the_first_fallback_counter_is_recorded_and_the_next_goes_back_once(node: Node) -> None:
    updated(node)
    node.online()
    node.run(TEST + 100)
    node.properties["force.fallback.counter"] = "7"
    node.outputs[kinds.UPDATE_MEMORY] = {}
    assert node.run(100) is None, "the first one ever seen is only recorded"
    node.properties["force.fallback.counter"] = "8"
    reboot = node.run(100)
    assert reboot is not None
    node.restart(reboot.reason, reboot.why)
    assert node.slots.current == "IMGA"
    node.online()
    assert node.run(TEST + 200) is None
    assert node.state("IMGA") is SlotState.ACTIVE
    assert node.doing() is UpdateStep.FAILED, "the version that was left is not taken again"
    assert "force.fallback.counter 8" in node.why


def test_without_a_version_to_go_back_to_nothing_happens(node: Node) -> None:
    node.run(50)
    node.properties["force.fallback.counter"] = "1"
    assert node.run(100) is None
    assert node.state("IMGA") is SlotState.ACTIVE


def test_a_node_with_one_slot_says_that_it_cannot(node: Node) -> None:
    node.slots = FakeSlots(labels=("IMGA",))
    node.slots.contents["IMGA"] = IMAGE + OLD.encode() + b"\n"
    node.want()
    assert node.run(100) is None
    assert "one slot alone" in node.why
