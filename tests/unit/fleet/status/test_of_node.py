"""From device info to what people see of a node."""

from __future__ import annotations

import pytest

from edgevirt.fleet.objects.base.object import find_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNodeStatus
from edgevirt.fleet.status import of_node
from edgevirt.fleet.status.of_system import Wanted
from edgevirt.wire.messages import info

NOW = 1_700_000_000.0


def device() -> info.ZInfoDevice:
    message = info.ZInfoDevice(
        state=info.ZDEVICE_STATE_ONLINE,
        machineArch="x86_64",
        ncpu=4,
        memory=2048,
        storage=100,
        HostName="box",
    )
    message.minfo.manufacturer = "ACME"
    message.swList.add(shortVersion="2.0", activated=True)
    message.swList.add(shortVersion="1.0")
    message.bootTime.seconds = int(NOW) - 60
    ports = message.systemAdapter.status.add().ports
    ports.add(name="eth0", IPAddrs=["192.0.2.7", "2001:db8::7"], up=True)
    return message


def fill(message: info.ZInfoDevice) -> EdgeNodeStatus:
    return of_node.fill(EdgeNodeStatus(node_id="kept"), message, NOW, NOW)


def ready(status: EdgeNodeStatus) -> tuple[str, str]:
    condition = find_condition(status.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.message


def test_the_whole_report_is_taken_in() -> None:
    status = fill(device())
    assert (status.version, status.architecture, status.cpus) == ("2.0", "amd64", 4)
    assert (status.memory, status.storage) == (2 << 30, 100 << 20)
    assert [a.address for a in status.addresses] == ["192.0.2.7", "2001:db8::7"]
    assert status.boot_time == timestamp(NOW - 60)
    assert (status.phase, status.node_id) == ("Online", "kept")
    assert ready(status) == ("True", "")


def test_an_empty_report_does_no_harm() -> None:
    status = fill(info.ZInfoDevice())
    assert (status.version, status.addresses, status.boot_time) == ("", (), None)


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (info.ZDEVICE_STATE_REBOOTING, "Rebooting"),
        (info.ZDEVICE_STATE_POWERING_OFF, "Rebooting"),
        (info.ZDEVICE_STATE_BASEOS_UPDATING, "Updating"),
        (info.ZDEVICE_STATE_MAINTENANCE_MODE, "Error"),
    ],
)
def test_the_node_s_state_is_said_in_one_word(state: info.ZDeviceState, phase: str) -> None:
    message = device()
    message.state = state
    assert fill(message).phase == phase


def test_maintenance_says_why() -> None:
    message = device()
    message.state = info.ZDEVICE_STATE_MAINTENANCE_MODE
    message.maintenance_mode_reasons.append(info.MAINTENANCE_MODE_REASON_LOW_DISK_SPACE)
    assert ready(fill(message)) == ("False", "maintenance mode: low disk space")


def test_values_of_newer_nodes_do_no_harm() -> None:
    message = device()
    message.state = 99  # type: ignore[assignment]
    message.last_boot_reason = 77  # type: ignore[assignment]
    message.maintenance_mode_reasons.append(88)  # type: ignore[arg-type]
    assert fill(message).phase == "Online"


def test_a_fallback_to_an_earlier_port_config_is_an_error() -> None:
    message = device()
    message.systemAdapter.status[0].lastError = "no route"
    message.systemAdapter.status.add().ports.add(name="eth0", IPAddrs=["198.51.100.2"])
    message.systemAdapter.currentIndex = 1
    status = fill(message)
    assert status.errors == ("the node fell back to an earlier port config: no route",)
    assert status.addresses[0].address == "198.51.100.2"


def test_a_port_that_tells_of_its_last_success_has_no_error() -> None:
    message = device()
    message.systemAdapter.status[0].ports[0].err.timestamp.seconds = 1
    assert fill(message).errors == ()


def test_every_complaint_is_shown() -> None:
    message = device()
    message.swList[1].swErr.description = "did not boot"
    message.configItemStatus.configItems["timer.x"].error = "out of range"
    message.configItemStatus.unknownConfigItems["nope"].value = "1"
    message.dataSecAtRestInfo.vaultList.add(name="data").vaultErr.description = "locked"
    assert fill(message).errors == (
        "version 1.0: did not boot",
        "vault data: locked",
        "property timer.x: out of range",
        "property nope: the node does not know it",
    )


def test_complaints_are_bounded() -> None:
    message = device()
    for number in range(1_000):
        message.configItemStatus.configItems[f"p{number}"].error = "x"
    assert len(fill(message).errors) == of_node.MAX_ERRORS


def test_why_it_booted_is_told_by_name_and_in_the_node_s_words() -> None:
    message = device()
    message.last_boot_reason = info.BOOT_REASON_WATCHDOG_HUNG
    message.lastRebootReason = "agent hung"
    message.lastRebootStack = "Traceback"
    message.lastRebootTime.seconds = int(NOW) - 90
    message.restartCounter = 7
    status = fill(message)
    assert (status.boot_reason, status.reboot_reason) == ("WatchdogHung", "agent hung")
    assert (status.reboot_stack, status.boots) == ("Traceback", 7)
    assert status.reboot_time == timestamp(NOW - 90)
    message.last_boot_reason = info.BOOT_REASON_OOM
    assert fill(message).boot_reason == "OOM"


def test_a_stack_is_bounded() -> None:
    message = device()
    message.lastRebootStack = "x" * 1_000_000
    assert len(fill(message).reboot_stack) < 20_000


def test_the_security_module_is_told_only_when_it_works() -> None:
    message = device()
    message.HSMInfo = "swtpm 2.0"
    assert fill(message).security_module == ""
    message.HSMStatus = info.ENABLED
    assert fill(message).security_module == "swtpm 2.0"


def test_a_node_that_should_run_another_version_is_not_updated() -> None:
    wanted = Wanted("3.0")
    status = of_node.fill(EdgeNodeStatus(), device(), NOW, NOW, wanted)
    updated = find_condition(status.conditions, "OSUpdated")
    assert updated is not None
    assert updated.status == "False"
    freed = of_node.fill(status, device(), NOW, NOW)
    assert find_condition(freed.conditions, "OSUpdated") is None
    asked = of_node.want_os(freed, wanted, NOW)
    assert find_condition(asked.conditions, "OSUpdated") is not None
    assert find_condition(of_node.want_os(asked, None, NOW).conditions, "OSUpdated") is None


def test_silence_and_its_end() -> None:
    status = of_node.silent(fill(device()), NOW, NOW + 300)
    assert (status.phase, ready(status)[0]) == ("Offline", "Unknown")
    again = of_node.heard(status, NOW + 400, NOW + 400)
    assert (again.phase, ready(again)[0]) == ("Online", "True")
