"""What the access service is handed, and what not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgevirt.host.door import DoorError
from edgevirt.host.fakes.hypervisor import FakeHypervisor, FakeMachine
from edgevirt.model.access import ConsoleKind, ConsoleWish, Vnc
from edgevirt.model.app import AppSecret
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import Domain, DomainVolume
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import APP_SECRET, DOMAIN
from edgevirt.node.domains.consoles import Consoles
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.memory import MemoryStore

APP = AppId("7f8e3c1a-0000-4000-8000-000000000001")
DOMAIN_OF_APP = Domain(
    app=APP,
    name=f"{APP}.1.1",
    display_name="test",
    activate=True,
    volumes=(DomainVolume(path="/", format=ContentFormat.CONTAINER),),
    image=ImageConfig(cmd=("run",)),
)
SERIAL = ConsoleWish(app=APP, kind=ConsoleKind.SERIAL)
AT_THE_DOOR = ConsoleWish(app=APP, kind=ConsoleKind.VNC, guarded=True)


class World:
    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.hypervisor = FakeHypervisor(self.machine, VirtualClock())
        self.store = MemoryStore(history=10)
        self.consoles = Consoles(self.store, [self.hypervisor])

    async def run(self, domain: Domain = DOMAIN_OF_APP) -> None:
        await self.store.put(DOMAIN, APP, domain)
        await self.hypervisor.create(domain, b"")
        await self.hypervisor.start(APP)


async def test_a_running_app_s_serial_line_is_handed_out() -> None:
    world = World()
    await world.run()
    with await world.consoles.open(SERIAL) as console:
        world.machine.consoles[APP].sendall(b"login: ")
        assert console.recv(100) == b"login: "
    await world.hypervisor.delete(APP)


async def test_an_app_that_does_not_run_has_none() -> None:
    with pytest.raises(DoorError, match="does not run"):
        await World().consoles.open(SERIAL)


async def test_a_screen_that_is_not_for_the_node_s_door_is_not_shown_there() -> None:
    world = World()
    await world.run()
    with pytest.raises(DoorError, match="not for the node's door"):
        await world.consoles.open(AT_THE_DOOR)


async def test_a_password_from_the_cipher_block_counts_and_nobody_is_let_in_before() -> None:
    world = World()
    await world.run(replace(DOMAIN_OF_APP, vnc=Vnc(display=1, password="nobodys"), has_secret=True))
    with pytest.raises(DoorError, match="isn't decrypted yet"):
        await world.consoles.open(AT_THE_DOOR)
    await world.store.put(APP_SECRET, APP, AppSecret(user_data="", why="cannot decrypt: no key"))
    with pytest.raises(DoorError, match="cannot decrypt: no key"):
        await world.consoles.open(AT_THE_DOOR)
    await world.store.put(APP_SECRET, APP, AppSecret(user_data="", vnc_password="sesame"))
    with pytest.raises(DoorError, match="has no screen"):  # it was asked for: the fake has none
        await world.consoles.open(AT_THE_DOOR)


async def test_why_a_hypervisor_has_no_such_console_is_passed_on() -> None:
    world = World()
    await world.run(replace(DOMAIN_OF_APP, vnc=Vnc(display=1)))
    with pytest.raises(DoorError, match="has no screen"):
        await world.consoles.open(AT_THE_DOOR)
