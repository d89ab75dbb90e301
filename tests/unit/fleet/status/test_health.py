"""Conditions of a node's ports and vault: what is wrong is said, in the node's own words."""

from __future__ import annotations

import pytest

from edgevirt.fleet.status import health
from edgevirt.wire.messages import info


def adapter(*keys: str, current: int = 0) -> info.SystemAdapterInfo:
    message = info.SystemAdapterInfo(currentIndex=current)
    for key in keys:
        message.status.add(key=key)
    return message


def test_the_preferred_ports_are_as_wanted() -> None:
    condition = health.ports_condition(adapter("zedagent", "lastresort"))
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "InUse")


def test_a_fall_back_says_from_what_to_what_and_why() -> None:
    message = adapter("zedagent", "bootstrap", current=1)
    message.status[0].lastError = "no answer from the fleet"
    condition = health.ports_condition(message)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "FellBack")
    assert condition.message == (
        "fell back to the ports of bootstrap from those of fleet: no answer from the fleet"
    )
    assert health.source_of_ports(message) == "bootstrap"


def test_ports_that_fail_now_are_told_from_ports_that_failed_once() -> None:
    message = adapter("zedagent")
    message.status[0].lastError = "no DNS"
    message.status[0].lastFailed.seconds = 20
    message.status[0].lastSucceeded.seconds = 10
    failing = health.ports_condition(message)
    message.status[0].lastSucceeded.seconds = 30
    recovered = health.ports_condition(message)
    assert failing is not None
    assert recovered is not None
    assert (failing.status, recovered.status) == ("False", "True")


def test_a_node_whose_ports_all_fail_says_so() -> None:
    condition = health.ports_condition(adapter("zedagent", current=7))
    assert condition is not None
    assert condition.reason == "NoneWorks"


def test_a_node_that_tells_nothing_has_no_condition() -> None:
    assert health.ports_condition(info.SystemAdapterInfo()) is None
    assert health.source_of_ports(info.SystemAdapterInfo()) == ""
    assert health.vault_condition(info.DataSecAtRest()) is None


@pytest.mark.parametrize(
    ("status", "why", "expected"),
    [
        (info.DATASEC_AT_REST_ENABLED, "", ("True", "Encrypted")),
        (info.DATASEC_AT_REST_DISABLED, "", ("True", "NotEncrypted")),
        (info.DATASEC_AT_REST_ERROR, "registers 8, 9 differ", ("False", "Closed")),
        (info.DATASEC_AT_REST_ENABLED, "cannot unseal", ("False", "Closed")),
        (info.DATASEC_AT_REST_UNKNOWN, "", ("Unknown", "NotYet")),
    ],
)
def test_the_vault_is_open_or_says_why_not(
    status: info.DataSecAtRestStatus, why: str, expected: tuple[str, str]
) -> None:
    secured = info.DataSecAtRest()
    vault = secured.vaultList.add(name="data", status=status)
    if why:
        vault.vaultErr.description = why
    condition = health.vault_condition(secured)
    assert condition is not None
    assert (condition.status, condition.reason) == expected
    assert why in condition.message


def test_the_worst_vault_counts() -> None:
    secured = info.DataSecAtRest()
    secured.vaultList.add(status=info.DATASEC_AT_REST_ENABLED)
    secured.vaultList.add(status=info.DATASEC_AT_REST_ERROR)
    condition = health.vault_condition(secured)
    assert condition is not None
    assert condition.status == "False"
