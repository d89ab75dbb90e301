"""Whatever port config is sent, the node can be reached afterwards. In virtual time."""

from __future__ import annotations

import pytest

from edgevirt.host.fakes.ports import Cable
from edgevirt.host.net.probe import Finding
from edgevirt.model.ports import PortConfig, PortConfigState, PortSettings, PortSource, Reach
from edgevirt.node.ports.steps import Timers
from tests.unit.node.ports.world import (
    EXPIRED,
    OK,
    REFUSED,
    SILENCE,
    START,
    WRONG_ROOT,
    by_dhcp,
    leased,
    static,
    world,
)

A_WHILE = 1_000.0


def of(*ports: PortSettings) -> PortConfig:
    return PortConfig(source=PortSource.CONTROLLER, priority=START, ports=ports)


async def test_without_any_config_every_port_asks_for_an_address() -> None:
    async with world({"eth0": leased(), "eth1": Cable(up=False)}) as w:
        status = await w.status()
        assert (status.source, status.state) == (PortSource.LAST_RESORT, PortConfigState.SUCCESS)
        assert [port.name for port in status.ports] == ["eth0", "eth1"]
        assert status.ports[0].addresses == ("192.0.2.2/24",)
        assert "eth1 has no link" in status.ports[1].error


async def test_a_config_of_the_controller_that_works_is_kept() -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        status, kept = await w.status(), await w.kept()
        assert (status.source, status.index) == (PortSource.CONTROLLER, 0)
        assert w.ports.wanted["eth0"].address == "192.0.2.9/24"
        assert kept.entries[0].last_succeeded >= START


@pytest.mark.parametrize(
    ("bad", "answer"),
    [
        (static("203.0.113.9"), SILENCE),
        (static("203.0.113.9"), WRONG_ROOT),
        (static("203.0.113.9"), Finding(Reach.NO_DNS, "no DNS")),
        (by_dhcp("eth7"), OK),
        (by_dhcp("eth1"), OK),
        (of(PortSettings(name="w", ifname="wlan0", trouble="cannot use port w: Wi-Fi")), OK),
        (of(PortSettings(name="e", ifname="eth0", management=False)), OK),
    ],
    ids=[
        "silent",
        "wrong root",
        "no dns",
        "no such port",
        "no lease",
        "wifi",
        "not for management",
    ],
)
async def test_a_config_that_fails_gives_way_to_the_one_that_worked(
    bad: PortConfig, answer: Finding
) -> None:
    async with world({"eth0": leased(), "eth1": Cable()}) as w:
        await w.offer(static("192.0.2.9"), 1.0)
        w.answers(
            lambda interface, dns: (
                OK if w.ports.wanted[interface].address == "192.0.2.9/24" else answer
            )
        )
        await w.offer(bad, 200.0)
        status, kept = await w.status(), await w.kept()
        assert w.ports.wanted["eth0"].address == "192.0.2.9/24"
        assert (kept.current, status.index) == (1, 1)
        assert status.state is PortConfigState.SUCCESS
        failed = kept.entries[0]
        assert failed.state in (PortConfigState.FAIL, PortConfigState.FAIL_WITH_IP_AND_DNS)
        assert failed.last_error.startswith("cannot ")
        assert failed.last_failed > START


async def test_a_set_up_that_the_machine_refuses_is_a_config_that_fails() -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        w.ports.refuses = {"192.0.2.10/24"}
        await w.offer(static("192.0.2.10"), 30.0)
        assert (await w.kept()).current == 1
        assert "refuse" in (await w.kept()).entries[0].last_error
        assert w.ports.wanted["eth0"].address == "192.0.2.9/24"


async def test_the_preferred_config_is_tried_again_and_taken_when_it_works() -> None:
    async with world() as w:
        w.works_with("192.0.2.2")
        await w.offer(static("192.0.2.9"), 60.0)
        assert (await w.status()).source is PortSource.LAST_RESORT
        w.works_with("192.0.2.2", "192.0.2.9")
        await w.clock.advance(500.0)
        assert (await w.status()).index == 1
        await w.clock.advance(150.0)
        status, kept = await w.status(), await w.kept()
        assert (status.index, status.source) == (0, PortSource.CONTROLLER)
        assert (kept.entries[0].last_error, kept.entries[0].last_failed > START) == ("", True)


async def test_the_preferred_config_is_left_alone_when_the_property_says_so() -> None:
    async with world(timers=Timers(better=0.0)) as w:
        w.works_with("192.0.2.2")
        await w.offer(static("192.0.2.9"), 60.0)
        w.works_with("192.0.2.2", "192.0.2.9")
        await w.clock.advance(5_000.0)
        assert (await w.status()).index == 1


@pytest.mark.parametrize("answer", [REFUSED, EXPIRED, Finding(Reach.UNAVAILABLE, "503")])
async def test_faults_at_the_controllers_end_cause_no_fallback(answer: Finding) -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        w.answers(answer)
        await w.offer(static("192.0.2.10"), A_WHILE)
        status = await w.status()
        assert (status.index, status.state) == (0, PortConfigState.REMOTE_WAIT)
        assert w.ports.wanted["eth0"].address == "192.0.2.10/24"
        assert answer.why in status.error
        w.answers(OK)
        await w.clock.advance(31.0)
        assert (await w.status()).state is PortConfigState.SUCCESS


async def test_one_failed_test_proves_nothing_two_in_a_row_do() -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        await w.offer(static("192.0.2.10"), 1.0)
        w.works_with("192.0.2.9")
        await w.clock.advance(310.0)
        status = await w.status()
        assert (status.index, status.testing) == (0, False)
        assert "does not answer" in status.error
        await w.clock.advance(300.0)
        assert (await w.status()).testing
        await w.clock.advance(35.0)
        assert (await w.status()).index == 1
        assert w.ports.wanted["eth0"].address == "192.0.2.9/24"


async def test_a_failure_between_passed_tests_is_forgotten() -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        for _ in range(4):
            w.answers(SILENCE)
            await w.clock.advance(300.0)
            w.answers(OK)
            await w.clock.advance(300.0)
        status = await w.status()
        assert (status.index, status.testing, status.error) == (0, False, "")


async def test_when_nothing_works_all_are_tried_again_and_again() -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        w.answers(SILENCE)
        await w.offer(static("192.0.2.10"), 3_600.0)
        asked = len(w.prober.asked)
        w.works_with("192.0.2.10")
        await w.clock.advance(700.0)
        assert len(w.prober.asked) > asked
        assert (await w.status()).state is PortConfigState.SUCCESS
        assert w.ports.wanted["eth0"].address == "192.0.2.10/24"


async def test_while_nothing_works_the_one_that_did_is_set_up() -> None:
    async with world() as w:
        await w.offer(static("192.0.2.9"), 1.0)
        w.answers(SILENCE)
        await w.offer(static("192.0.2.10"), 120.0)
        assert (await w.status()).state is not PortConfigState.SUCCESS
        assert w.ports.wanted["eth0"].address == "192.0.2.9/24"


async def test_a_cable_that_is_put_in_is_noticed_long_before_the_next_test() -> None:
    cable = leased()
    cable.up = False
    async with world({"eth0": cable}) as w:
        await w.clock.advance(400.0)
        assert (await w.status()).state is not PortConfigState.SUCCESS
        cable.up = True
        w.ports.touch()
        await w.clock.advance(3.0)
        assert (await w.status()).state is PortConfigState.SUCCESS


async def test_after_a_restart_it_goes_on_with_what_was_in_use() -> None:
    async with world() as w:
        w.works_with("192.0.2.9")
        await w.offer(static("192.0.2.9"), 1.0)
        await w.offer(static("192.0.2.10"), 60.0)
        kept = await w.kept()
    assert kept.current == 1
    async with world(kept=kept) as w:
        w.works_with("192.0.2.9")
        await w.clock.advance(1.0)
        assert w.ports.wanted["eth0"].address == "192.0.2.9/24"
        assert (await w.kept()).entries[0].last_error


async def test_ports_of_a_higher_cost_are_asked_only_when_the_cheaper_ones_fail() -> None:
    ports = (
        PortSettings(name="lan", ifname="eth0"),
        PortSettings(name="lte", ifname="eth1", cost=10),
    )
    config = of(*ports)
    async with world({"eth0": leased(), "eth1": leased(3)}) as w:
        await w.offer(config, 1.0)
        w.prober.asked.clear()
        await w.clock.advance(300.0)
        assert set(w.prober.asked) == {"eth0"}
        w.works_with("192.0.2.3")
        await w.clock.advance(300.0)
        assert w.prober.asked[-2:] == ["eth0", "eth1"]
        status = await w.status()
        assert status.state is PortConfigState.SUCCESS
        assert "does not answer" in status.ports[0].error
        assert status.ports[1].last_succeeded > status.ports[0].last_succeeded
