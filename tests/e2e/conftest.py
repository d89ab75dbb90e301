"""A fleet in a process of its own, once per module, and machines that speak to it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from tests.e2e.system import System
from tests.parts.device_client import Device, DeviceClient, Onboarding
from tests.parts.fleet_process import FleetProcess


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed on a whole system shows what all its parts said last."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for used in item.funcargs.values():
            if isinstance(used, System):
                report.sections.append(("the system's logs", used.tails()))
    return report


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetProcess]:
    process = FleetProcess(tmp_path_factory.mktemp("fleet"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def onboarding(fleet: FleetProcess) -> Onboarding:
    """Lets every machine in."""
    key = Onboarding()
    fleet.admit(key)
    return key


@pytest.fixture
async def newcomer(fleet: FleetProcess) -> AsyncIterator[DeviceClient]:
    """A machine that has not said a word yet."""
    serial = f"sn-{uuid.uuid4().hex[:12]}"
    client = DeviceClient(fleet.nodes, fleet.root_file, Device(serial))
    yield client
    await client.close()


@pytest.fixture
async def node(newcomer: DeviceClient, onboarding: Onboarding) -> DeviceClient:
    """A machine that has its first config."""
    await newcomer.come_online(onboarding)
    return newcomer
