"""A node and its controller: the whole conversation, in virtual time over real HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections import deque
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from edgevirt.model import kinds
from edgevirt.model.app import AppInstanceStatus
from edgevirt.model.base import SwState
from edgevirt.model.ids import AppId
from edgevirt.model.node import AgentState, Identity, LogBundle, LogUpload
from edgevirt.node.agent.link import Link
from edgevirt.node.agent.outcome import Failure
from edgevirt.node.service import Context, Settings
from edgevirt.runtime import Put, RealClock
from edgevirt.wire.messages import attest, config, info
from tests.worlds.agent import NODE, AgentWorld, agent_world

APP = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    async with agent_world(tmp_path) as made:
        made.controller.want("1")
        yield made


def add_app(message: config.EdgeDevConfig, uuid: str = APP) -> None:
    app = message.apps.add(displayname="nginx", activate=True)
    app.uuidandversion.uuid = uuid
    app.fixedresources.memory = 1024


def config_version(world: AgentWorld) -> str:
    found = world.values(kinds.DEVICE_CONFIG).get("node")
    return found.version if found else ""


async def online(world: AgentWorld, version: str = "1") -> None:
    await world.until(f"config {version} is in force", lambda: config_version(world) == version)


# -- becoming known ------------------------------------------------------------------------------


async def test_a_new_node_registers_learns_its_name_and_gets_its_config(world: AgentWorld) -> None:
    add_app(world.controller.config)
    async with world.run():
        await online(world)
        paths = [asked.path for asked in world.controller.asked]
        assert paths[:3] == ["/certs", "/register", "/uuid"]
        assert f"/id/{NODE}/config" in paths
        assert list(world.values(kinds.APP_INSTANCE)) == [APP]
        status = world.status
        assert status is not None
        assert (status.state, status.node, status.config_from) == (
            AgentState.ONLINE,
            NODE,
            "controller",
        )


async def test_a_node_that_is_refused_asks_ever_more_rarely_until_it_is_let_in(
    world: AgentWorld,
) -> None:
    world.controller.answers["/register"] = deque([403] * 6)
    world.controller.answers["/uuid"] = deque([403] * 6)
    async with world.run():
        await world.until("it is onboarding", lambda: world.controller.times("/uuid"))
        assert world.status is not None
        await online(world)
    asked = world.controller.times("/uuid")[:7]
    gaps = [round(later - earlier) for earlier, later in pairwise(asked)]
    assert gaps == pytest.approx([1, 2, 4, 8, 16, 32], abs=2)


async def test_a_node_speaks_to_nobody_whose_certificate_does_not_lead_to_its_root(
    tmp_path: Path,
) -> None:
    async with agent_world(tmp_path, other_root=True) as world, world.run():
        await world.pass_time(60)
        assert world.controller.asked == []
        assert world.status is not None
        assert world.status.state is AgentState.ONBOARDING
        assert world.status.trouble is not None


async def test_the_interval_of_a_config_holds_from_the_next_question_on(world: AgentWorld) -> None:
    world.controller.config.configItems.add(key="timer.config.interval", value="5")
    async with world.run():
        await online(world)
        before = len(world.controller.times("/config"))
        await world.pass_time(15)
        assert len(world.controller.times("/config")) >= before + 2


async def test_a_controller_that_does_not_answer_is_given_up_after_the_send_timeout(
    world: AgentWorld,
) -> None:
    world.controller.config.configItems.add(key="timer.send.timeout", value="1")
    async with world.run():
        await online(world)
        world.controller.mute = ("/config",)

        def given_up() -> bool:
            status = world.status
            return status is not None and "no whole answer in 1 s" in str(status.trouble)

        await world.until("it is told", given_up, patience=36_000)


async def test_a_connection_that_does_not_come_about_is_given_up_after_the_dial_timeout(
    world: AgentWorld,
) -> None:
    with contextlib.ExitStack() as full:
        listener = full.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(3):  # the kernel takes one more than the backlog, then drops what comes
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        world.paths.server.write_text(f"127.0.0.1:{port}\n")
        context = Context("agent", world.store, RealClock(), world.paths, Settings())
        link = Link(context, Identity(device_cert="", ecdh_cert=""))
        link.dial_seconds = 0.5
        with pytest.raises(Failure, match="cannot reach"):
            async with asyncio.timeout(60):
                await link.fetch_certificates()
        await link.close()


async def test_a_shorter_interval_of_metrics_does_not_wait_for_the_longer_one(
    world: AgentWorld,
) -> None:
    world.controller.config.configItems.add(key="timer.config.interval", value="5")
    world.controller.config.configItems.add(key="timer.metric.interval", value="3600")
    async with world.run():
        await world.until("first metrics", world.metrics)
        world.controller.config.configItems[1].value = "5"
        world.controller.want("2")
        await online(world, "2")
        await world.pass_time(15)
        assert len(world.metrics()) >= 3


# -- without a controller ------------------------------------------------------------------------


async def test_a_node_starts_its_apps_from_the_checkpoint_when_nobody_answers(
    world: AgentWorld,
) -> None:
    add_app(world.controller.config)
    async with world.run():
        await online(world)
    world.controller.answers[""] = deque([503] * 1000)
    async with world.run():
        await online(world)
        assert list(world.values(kinds.APP_INSTANCE)) == [APP]
        assert world.status is not None
        assert world.status.config_from == "checkpoint"


async def test_a_checkpoint_that_somebody_changed_is_not_believed(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
    saved = world.paths.checkpoint / "config"
    content = bytearray(saved.read_bytes())
    content[len(content) // 3] ^= 1
    saved.write_bytes(bytes(content))
    world.controller.answers[""] = deque([503] * 1000)
    async with world.run():
        await world.pass_time(30)
        assert config_version(world) == ""


async def test_a_node_remembers_its_name_and_does_not_register_again(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
    world.controller.asked.clear()
    async with world.run():
        await world.until("it polls", lambda: world.controller.times("/config"))
        assert world.controller.times("/register") == []


async def test_a_node_that_starts_shows_the_config_of_its_disk_and_has_it_confirmed(
    world: AgentWorld,
) -> None:
    async with world.run():
        await online(world)
    world.controller.asked.clear()
    async with world.run():
        await world.until("it polls", lambda: world.controller.times("/config"))
        (first, *_) = world.controller.told("/config", config.ConfigRequest)
        assert first.configHash == world.controller.config_hash
        await world.until(
            "the trial of a system hears that the controller was reached",
            lambda: world.status is not None and world.status.config_from == "controller",
        )


# -- the config ----------------------------------------------------------------------------------


async def test_polls_come_at_the_configured_interval_with_jitter(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        world.controller.asked.clear()
        await world.pass_time(600)
    asked = world.controller.times("/config")
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert len(gaps) > 8
    assert min(gaps) >= 18 - 2
    assert max(gaps) <= 60 + 2
    assert max(gaps) - min(gaps) > 2


@pytest.mark.parametrize("with_200", [False, True])
async def test_an_unchanged_config_changes_nothing_whichever_way_it_is_said(
    world: AgentWorld, with_200: bool
) -> None:
    world.controller.same_hash_with_200 = with_200
    add_app(world.controller.config)
    async with world.run():
        await online(world)
        await world.until("the app is wanted", lambda: bool(world.values(kinds.APP_INSTANCE)))
        before = await world.store.get(kinds.APP_INSTANCE, APP)
        world.controller.asked.clear()
        await world.pass_time(200)
        assert len(world.controller.times("/config")) >= 3
        assert await world.store.get(kinds.APP_INSTANCE, APP) == before
        assert world.status is not None
        assert (world.status.state, world.status.trouble) == (AgentState.ONLINE, None)


async def test_an_app_that_is_no_longer_wanted_is_withdrawn(world: AgentWorld) -> None:
    add_app(world.controller.config)
    async with world.run():
        await online(world)
        del world.controller.config.apps[:]
        world.controller.want("2")
        await online(world, "2")
        await world.until("the app is gone", lambda: not world.values(kinds.APP_INSTANCE))


async def test_an_older_config_is_ignored(world: AgentWorld) -> None:
    world.controller.config.config_timestamp.seconds = 1000
    async with world.run():
        await online(world)
        world.controller.config.config_timestamp.seconds = 999
        world.controller.want("old")
        await world.pass_time(100)
        assert config_version(world) == "1"
        world.controller.config.config_timestamp.seconds = 1000
        world.controller.want("equal")
        await online(world, "equal")


async def test_a_config_that_cannot_be_obeyed_keeps_the_last_good_one_and_is_reported(
    world: AgentWorld,
) -> None:
    add_app(world.controller.config)
    async with world.run():
        await online(world)
        world.controller.config.apps[0].uuidandversion.uuid = "no uuid"
        world.controller.want("bad")
        await world.until(
            "it is reported", lambda: world.status is not None and world.status.trouble
        )
        assert config_version(world) == "1"
        assert list(world.values(kinds.APP_INSTANCE)) == [APP]
        world.controller.config.apps[0].uuidandversion.uuid = APP
        world.controller.want("good")
        await online(world, "good")
        await world.until("all is well", lambda: world.status and world.status.trouble is None)


async def test_metrics_tell_a_config_that_came_but_is_not_in_force(world: AgentWorld) -> None:
    world.controller.config.config_timestamp.seconds = 1000
    add_app(world.controller.config)
    async with world.run():
        await online(world)
        world.controller.config.config_timestamp.seconds = 2000
        world.controller.config.apps[0].uuidandversion.uuid = "no uuid"
        world.controller.want("bad")
        await world.pass_time(200)
    last = world.metrics()[-1].dm
    assert (last.last_received_config.seconds, last.last_processed_config.seconds) == (2000, 1000)


async def test_another_nodes_config_is_refused(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        world.controller.want("2")
        world.controller.config.id.uuid = APP
        await world.pass_time(100)
        assert config_version(world) == "1"


async def test_a_config_with_a_forged_signature_is_refused(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        world.controller.tamper = True
        world.controller.want("forged")
        await world.pass_time(150)
        assert config_version(world) == "1"
        assert world.status is not None
        assert world.status.state is AgentState.OFFLINE
        world.controller.tamper = False
        await online(world, "forged")
    counted = [message.dm.zedcloud[0].authVerifyFailure for message in world.metrics()]
    assert max(counted) >= 1


async def test_a_controller_that_rotates_its_certificate_is_believed_within_one_poll(
    world: AgentWorld,
) -> None:
    async with world.run():
        await online(world)
        world.controller.asked.clear()
        world.controller.rotate()
        world.controller.want("2")
        await online(world, "2")
        assert world.controller.times("/certs") != []


async def test_a_key_under_which_the_config_has_secrets_outlives_its_rotation(
    world: AgentWorld,
) -> None:
    used, unused = world.controller.certs.certs[1], None
    context = world.controller.config.cipherContexts.add(contextId="c")
    context.controllerCertHash = used.certHash
    async with world.run():
        await online(world)
        for version in ("2", "3"):
            unused = world.controller.certs.certs[1] if version == "3" else None
            world.controller.rotate()
            world.controller.want(version)
            await online(world, version)
        known = dict(world.values(kinds.CONTROLLER_CERTIFICATES)["controller"].ecdh)
    assert used.certHash in known
    assert world.controller.certs.certs[1].certHash in known
    assert unused is not None
    assert unused.certHash not in known


# -- commands ------------------------------------------------------------------------------------


async def test_the_first_reboot_counter_is_recorded_and_a_later_one_executed_once(
    world: AgentWorld,
) -> None:
    world.controller.config.reboot.counter = 5
    async with world.run():
        await online(world)
        assert world.status is not None
        assert world.status.operation is None
        world.controller.config.reboot.counter = 3
        world.controller.want("2")
        operation = await world.until(
            "it wants a reboot", lambda: world.status and world.status.operation
        )
        assert (operation.what, operation.counter) == ("reboot", 3)
        told = world.infos(info.ZiDevice)[-1].dinfo
        assert (told.state, told.reboot_inprogress) == (info.ZDEVICE_STATE_REBOOTING, True)
        assert told.rebootConfigCounter == 3
    async with world.run():
        await online(world, "2")
        await world.pass_time(120)
        assert world.status is not None
        assert world.status.operation is None


@pytest.mark.parametrize("answer", [400, 401, 404])
async def test_a_node_that_is_forgotten_asks_for_its_name_now_and_then(
    world: AgentWorld, answer: int
) -> None:
    async with world.run():
        await online(world)
        world.controller.answers["/config"] = deque([answer] * 1000)
        world.controller.asked.clear()
        await world.pass_time(1900)
    asked = world.controller.times("/uuid")
    assert 2 <= len(asked) <= 4
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) >= 600
    assert world.status is not None
    assert world.status.trouble is not None
    assert world.status.trouble.hint.startswith("it asks to be let in again at ")


async def test_a_node_that_was_let_in_anew_asks_at_once_when_it_is_forgotten_again(
    world: AgentWorld,
) -> None:
    async with world.run():
        await online(world)
        world.controller.asked.clear()
        for _ in range(2):
            world.controller.answers["/config"] = deque([404] * 3)
            world.controller.config.id.uuid = str(uuid.uuid4())
            await world.pass_time(120)
    assert len(world.controller.times("/uuid")) == 2


async def test_a_node_that_must_prove_itself_attests_and_shows_its_token(
    world: AgentWorld,
) -> None:
    world.controller.attested = False
    async with world.run():
        await online(world)
        steps = [m.reqType for m in world.controller.told("/attest", attest.ZAttestReq)]
        assert steps[:3] == [1, 2, 3]
        world.controller.token = b"token-2"
        world.controller.want("2")
        await online(world, "2")
    tokens = [m.integrity_token for m in world.controller.told("/config", config.ConfigRequest)]
    assert tokens[-1] == b"token-2"


# -- reports -------------------------------------------------------------------------------------


def an_app(state: SwState) -> AppInstanceStatus:
    return AppInstanceStatus(id=AppId(APP), name="nginx", state=state, since=1.0)


async def test_what_happens_to_an_app_is_told_until_it_is_gone(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        await world.store.put(kinds.APP_INSTANCE_STATUS, APP, an_app(SwState.RUNNING))
        await world.until("it is told", lambda: world.infos(info.ZiApp))
        assert world.infos(info.ZiApp)[-1].ainfo.state == info.RUNNING
        await world.store.delete(kinds.APP_INSTANCE_STATUS, APP)
        await world.until("its end is told", lambda: world.infos(info.ZiApp)[-1].ainfo.state == 0)
        assert world.infos(info.ZiApp)[-1].ainfo == info.ZInfoApp(AppID=APP)


async def test_reports_wait_out_a_controller_in_trouble_and_the_last_state_arrives(
    world: AgentWorld,
) -> None:
    async with world.run():
        await online(world)
        world.controller.answers["/info"] = deque([503] * 3)
        await world.store.put(kinds.APP_INSTANCE_STATUS, APP, an_app(SwState.BOOTING))
        await world.pass_time(5)
        await world.store.put(kinds.APP_INSTANCE_STATUS, APP, an_app(SwState.RUNNING))

        def arrived() -> bool:
            told = world.infos(info.ZiApp)
            return bool(told) and told[-1].ainfo.state == info.RUNNING

        await world.until(
            "the last state", lambda: arrived() and not world.controller.answers["/info"]
        )


async def test_a_new_epoch_makes_the_node_tell_everything_again(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        await world.store.put(kinds.APP_INSTANCE_STATUS, APP, an_app(SwState.RUNNING))
        await world.until("it is told", lambda: world.infos(info.ZiApp))
        world.controller.asked.clear()
        world.controller.want("2", controller_epoch=9)
        await world.until("it is told again", lambda: world.infos(info.ZiApp))
        await world.until("the device too", lambda: world.infos(info.ZiDevice))


async def test_the_node_itself_is_told_every_ten_minutes_with_its_wrong_properties(
    world: AgentWorld,
) -> None:
    world.controller.config.configItems.add(key="timer.config.interval", value="1")
    async with world.run():
        await online(world)
        await world.pass_time(1500)
    told = world.infos(info.ZiDevice)
    assert len(told) >= 3
    item = told[-1].dinfo.configItemStatus.configItems["timer.config.interval"]
    assert (item.value, bool(item.error)) == ("60", True)


async def test_metrics_come_about_once_a_minute(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        await world.pass_time(600)
    asked = world.controller.times("/metrics")
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert 18 - 2 <= min(gaps) <= max(gaps) <= 60 + 2


# -- logs ----------------------------------------------------------------------------------------


async def put_bundle(world: AgentWorld, name: str, created: float) -> None:
    path = world.paths.persist / name
    path.write_bytes(name.encode())
    bundle = LogBundle(path=str(path), created=created, size=len(name))
    await world.store.put(kinds.LOG_BUNDLE, name, bundle)


async def test_log_bundles_go_oldest_first_and_are_acknowledged(world: AgentWorld) -> None:
    async with world.run():
        for name, created in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
            await put_bundle(world, name, created)
        await world.until("all are sent", lambda: len(world.controller.times("/newlogs")) == 3)
        await world.until("all are settled", lambda: len(world.values(kinds.LOG_UPLOAD)) == 3)
    sent = [a.payload for a in world.controller.asked if a.path.endswith("/newlogs")]
    assert sent == [b"a", b"b", b"c"]
    assert set(world.values(kinds.LOG_UPLOAD).values()) == {LogUpload(accepted=True)}


async def test_a_bundle_that_nobody_takes_is_set_aside_and_blocks_no_other(
    world: AgentWorld,
) -> None:
    world.controller.answers["/newlogs"] = deque([400] * 10)
    async with world.run():
        await put_bundle(world, "poison", 1.0)
        await put_bundle(world, "good", 2.0)
        await world.until("both are settled", lambda: len(world.values(kinds.LOG_UPLOAD)) == 2)
    settled = world.values(kinds.LOG_UPLOAD)
    assert settled["good"].accepted
    assert not settled["poison"].accepted
    assert settled["poison"].why


async def test_no_log_is_given_up_while_the_controller_is_only_away(world: AgentWorld) -> None:
    world.controller.answers["/newlogs"] = deque([503] * 8)
    async with world.run():
        await put_bundle(world, "a", 1.0)
        await world.until("it is sent", lambda: world.values(kinds.LOG_UPLOAD), patience=3600 * 6)
    assert world.values(kinds.LOG_UPLOAD)["a"].accepted


async def test_a_node_that_was_onboarded_is_not_online_before_it_reached_its_controller(
    world: AgentWorld,
) -> None:
    """Else a version under test would count as in contact, and never be left."""
    async with world.run():
        await online(world)
    world.controller.answers["/config"] = deque([500] * 4)
    states: list[AgentState] = []

    async def follow() -> None:
        async for event in world.store.watch(kinds.AGENT_STATUS):
            states.extend([event.resource.value.state] if isinstance(event, Put) else [])

    async with world.run():
        following = asyncio.create_task(follow())
        await world.until("it gave up", lambda: AgentState.OFFLINE in states)
        following.cancel()
        assert AgentState.ONLINE not in states


# -- barred --------------------------------------------------------------------------------------

TREE = "5a0c9c1e-52a4-4d2c-8a3a-5f5f0d5b9c13"


def cure(at: int, node: str = NODE) -> config.EdgeDevConfig:
    """What a controller offers a node that it bars."""
    made = config.EdgeDevConfig()
    made.id.uuid = node
    made.config_timestamp.seconds = at
    made.contentInfo.add(uuid=TREE, URL="os/3.img", iformat=config.RAW)
    made.baseos.content_tree_uuid = TREE
    made.baseos.base_os_version = "3"
    return made


def os_version(world: AgentWorld) -> str:
    found = world.values(kinds.BASE_OS).get("node")
    return found.version if found else ""


async def test_a_barred_node_heeds_the_system_that_it_is_offered_and_keeps_its_apps(
    world: AgentWorld,
) -> None:
    add_app(world.controller.config)
    world.controller.config.config_timestamp.seconds = 100
    async with world.run():
        await online(world)
        world.controller.attested, world.controller.token = False, b"token-2"
        world.controller.answers["/attest"] = deque([403] * 40)
        world.controller.offered = cure(101)
        await world.until("it wants the cure", lambda: os_version(world) == "3")
        assert list(world.values(kinds.APP_INSTANCE)) == [APP]
        world.controller.attested = True
        world.controller.want("2")
        await online(world, "2")
        await world.until("a config is the whole truth again", lambda: os_version(world) == "")


@pytest.mark.parametrize("offered", [cure(99), cure(101, node=APP)])
async def test_an_offer_that_is_old_or_another_node_s_is_not_heeded(
    world: AgentWorld, offered: config.EdgeDevConfig
) -> None:
    world.controller.config.config_timestamp.seconds = 100
    async with world.run():
        await online(world)
        world.controller.attested, world.controller.token = False, b"token-2"
        world.controller.offered = offered
        world.controller.answers["/attest"] = deque([403] * 40)
        refusals = len(world.controller.times("/config"))
        await world.until(
            "it was refused often", lambda: len(world.controller.times("/config")) > refusals + 4
        )
        assert os_version(world) == ""


async def test_an_offer_that_the_controller_did_not_sign_is_not_heeded(world: AgentWorld) -> None:
    async with world.run():
        await online(world)
        world.controller.attested, world.controller.token = False, b"token-2"
        world.controller.offered, world.controller.tamper = cure(1 << 31), True
        refusals = len(world.controller.times("/config"))
        await world.until(
            "it was refused often", lambda: len(world.controller.times("/config")) > refusals + 4
        )
        assert os_version(world) == ""
