"""A person's end and a node's are brought together, for whom may, and for no longer than that."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from edgevirt.fleet.consoles.sessions import DIAL_SECONDS, IDLE_SECONDS, WAIT_SECONDS
from edgevirt.fleet.objects import kinds
from edgevirt.wire import access
from edgevirt.wire.access import Data, End
from tests.worlds.consoles import GROUPS, NODE, ConsolesWorld, consoles_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ConsolesWorld]:
    async with consoles_world(tmp_path) as made:
        yield made


async def told(world: ConsolesWorld) -> list[str]:
    events = await world.store.list(kinds.EVENT)
    return [event.value.message for event in events.values()]


async def refusal(world: ConsolesWorld, **who: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with world.person(**who):
            pass
    response = caught.value.response
    return response.status_code, json.loads(bytes(response.body))["message"]


async def test_what_is_typed_reaches_the_guest_and_what_it_prints_comes_back(
    world: ConsolesWorld,
) -> None:
    loop = asyncio.get_running_loop()
    async with world.pair() as (person, _):
        await person.types(b"ping\r")
        assert await loop.sock_recv(world.consoles[0], 100) == b"ping\r"
        await loop.sock_sendall(world.consoles[0], b"pong\r\n")
        assert await person.reads() == Data(b"pong\r\n")
        assert any("each 60 s" in said for said in person.said)
    assert world.changed == [NODE, NODE]  # granted, and no longer
    await asyncio.sleep(0.05)
    assert world.grants() == ()
    assert await told(world) == [
        "ada opened the serial console",
        "ada had the serial console for 0 s",
    ]


@pytest.mark.parametrize("who", ["viewer", "stranger"])
async def test_who_may_not_change_an_app_may_not_open_its_console(
    world: ConsolesWorld, who: str
) -> None:
    code, why = await refusal(world, name=who, group=GROUPS[who])
    assert code == 403
    assert "appinstances" in why
    assert await told(world) == []


async def test_nobody_gets_in_without_saying_who_it_is(world: ConsolesWorld) -> None:
    url = f"ws://127.0.0.1:{world.operators}/apis/edgevirt.io/v1alpha1/namespaces/default"
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{url}/appinstances/guest/console", proxy=None)
    assert caught.value.response.status_code == 401


async def test_an_app_that_does_not_run_says_so(world: ConsolesWorld) -> None:
    await world.set_state("HALTED")
    assert await refusal(world) == (409, "cannot open a console of guest: it is HALTED")


async def test_a_container_is_told_by_its_log(world: ConsolesWorld) -> None:
    await world.set_state("RUNNING", type="Container", virtualization="None")
    code, why = await refusal(world)
    assert (code, "edgevirt logs -f guest" in why) == (409, True)


@pytest.mark.parametrize("kind", ["Unikernel", "Container"])
async def test_what_starts_with_a_kernel_has_no_screen_but_a_line(
    world: ConsolesWorld, kind: str
) -> None:
    await world.set_state("RUNNING", type=kind)
    code, why = await refusal(world, query="kind=vnc")
    assert "`edgevirt console guest` is its serial line" in why
    assert (code, "no screen" in why) == (409, True)


async def test_a_node_that_is_offline_is_not_waited_for(world: ConsolesWorld) -> None:
    await world.set_node("Offline")
    code, why = await refusal(world)
    assert (code, "edge-1 is offline" in why) == (409, True)


async def test_an_app_that_is_not_there_has_no_console(world: ConsolesWorld) -> None:
    assert (await refusal(world, app="other"))[0] == 404


async def test_a_kind_that_does_not_exist_is_refused(world: ConsolesWorld) -> None:
    assert (await refusal(world, query="kind=telepathy"))[0] == 400


async def test_a_second_one_is_told_who_is_there_and_may_take_over(world: ConsolesWorld) -> None:
    async with world.pair() as (first, _):
        code, why = await refusal(world, name="ben")
        assert (code, "ada has it open" in why) == (409, True)
        async with world.person(name="ben", query="takeOver=true"):
            assert "ben took the console over" in await first.hears_until("end")


async def test_a_node_that_never_asks_is_given_up(world: ConsolesWorld) -> None:
    async with world.person() as person:
        await person.hears_until("say")
        await world.clock.advance(WAIT_SECONDS)
        assert "edge-1 has not asked for its config" in await person.hears_until("end")
    await asyncio.sleep(0.05)
    assert world.grants() == ()


async def test_a_node_that_asks_and_does_not_connect_is_none_of_ours(world: ConsolesWorld) -> None:
    async with world.person() as person:
        await person.hears_until("say")
        world.dispatcher.note_asked(NODE)
        assert "it connects" in await person.hears_until("say")
        await world.clock.advance(DIAL_SECONDS)
        assert "edgevirt's own nodes" in await person.hears_until("end")


async def test_a_session_at_which_nothing_happens_ends(world: ConsolesWorld) -> None:
    async with world.pair() as (person, session):
        await world.clock.advance(IDLE_SECONDS - 60)
        await person.types(b"x")
        await asyncio.get_running_loop().sock_recv(world.consoles[0], 1)
        await world.clock.advance(IDLE_SECONDS - 60)
        await world.clock.advance(120)
        assert "nothing was typed or printed for 15 min" in await person.hears_until("end")
        await asyncio.wait_for(session, 10)


async def test_a_node_says_why_it_attaches_to_nothing(world: ConsolesWorld) -> None:
    world.refusing = "cannot attach: it has no screen"
    async with world.person() as person, world.node():
        await person.greets()
        assert await person.reads() == End("cannot attach: it has no screen")


async def test_a_guest_that_ends_ends_the_session(world: ConsolesWorld) -> None:
    async with world.pair() as (person, _):
        world.consoles[0].close()
        assert await person.reads() == End("the app has ended")


async def test_a_node_s_end_that_is_killed_is_told(world: ConsolesWorld) -> None:
    async with world.pair() as (person, session):
        session.cancel()
        assert "node's end" in await person.hears_until("end")


async def test_a_person_who_leaves_ends_the_node_s_session(world: ConsolesWorld) -> None:
    async with world.pair() as (person, session):
        await person.socket.close()
        await asyncio.wait_for(session, 10)


async def test_a_session_is_held_once(world: ConsolesWorld) -> None:
    async with world.pair():
        await asyncio.wait_for(world.session(world.grants()[0]).run(), 10)  # is refused, and gone
        assert len(world.consoles) == 1


async def test_a_stranger_at_the_front_door_is_refused(world: ConsolesWorld) -> None:
    tls = ssl.create_default_context(cadata=world.ring.keys.root.pem.decode())
    headers = {access.SESSION_HEADER: "guessed", access.VERSION_HEADER: access.VERSION}
    url = f"wss://127.0.0.1:{world.nodes}"
    for path, code in ((access.PATH, 403), ("/elsewhere", 404)):
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{url}{path}", ssl=tls, additional_headers=headers, proxy=None)
        assert caught.value.response.status_code == code


async def test_a_node_that_speaks_otherwise_is_told_apart(world: ConsolesWorld) -> None:
    async with world.person() as person:
        await person.hears_until("say")
        (grant,) = world.grants()
        tls = ssl.create_default_context(cadata=world.ring.keys.root.pem.decode())
        headers = {
            access.SESSION_HEADER: access.session_token(grant),
            access.VERSION_HEADER: "0.8.4",
        }
        url = f"wss://127.0.0.1:{world.nodes}{access.PATH}"
        with pytest.raises(InvalidStatus):
            await connect(url, ssl=tls, additional_headers=headers, proxy=None)
        assert "edge-1 serves no consoles" in await person.hears_until("end")


@pytest.mark.slow
async def test_a_guest_that_prints_to_nobody_is_not_held_up_and_takes_no_room(
    world: ConsolesWorld,
) -> None:
    loop = asyncio.get_running_loop()
    async with world.pair() as (person, _):
        async with asyncio.timeout(30):
            for _ in range(512):  # 16 MiB, of which the person reads nothing
                await loop.sock_sendall(world.consoles[0], b"x" * 32_768)
        await loop.sock_sendall(world.consoles[0], b"the last word")
        heard = b""
        async with asyncio.timeout(30):
            while b"the last word" not in heard:
                said = await person.reads()
                assert isinstance(said, Data)
                heard += said.data
        assert b"bytes are left out here" in heard
        assert len(heard) < 16 << 20  # what the kernel holds at both hops, and little besides


async def test_a_fleet_that_stops_ends_all(world: ConsolesWorld) -> None:
    async with world.pair() as (person, _):
        world.dispatcher.close()
        await asyncio.wait_for(person.socket.wait_closed(), 10)
