"""From a node's words on an app to its AppInstance's status."""

from __future__ import annotations

import pytest

from edgevirt.fleet.objects.app.instance import (
    COLUMNS,
    AppInstance,
    AppInstanceSpec,
    AppInstanceStatus,
    settle,
)
from edgevirt.fleet.objects.base.object import find_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import NodeAddress
from edgevirt.fleet.status import of_app
from edgevirt.wire.convert.reports import STATES
from edgevirt.wire.messages import info
from tests.unit.fleet.objects_world import APP, changed

NOW = 1_700_000_000.0


def told(state: info.ZSwState, boot: float = 0.0, error: str = "") -> info.ZInfoApp:
    message = info.ZInfoApp(AppID="app", state=state)
    if boot:
        message.bootTime.seconds = int(boot)
    if error:
        message.appErr.add(description=error)
    return message


def ready(status: AppInstanceStatus) -> tuple[str, str, str]:
    condition = find_condition(status.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message


@pytest.mark.parametrize("state", sorted(set(STATES.values())))
def test_every_state_has_a_name_and_words(state: info.ZSwState) -> None:
    status = of_app.fill(AppInstanceStatus(), told(state), NOW)
    assert status.state.isupper()
    assert status.what
    assert ready(status)[0] == ("True" if state == info.RUNNING else "False")


def test_states_go_by_eve_s_names() -> None:
    names = {
        state: of_app.state_name(state)
        for state in (info.DOWNLOAD_STARTED, info.DELIVERED, info.RUNNING, info.INVALID)
    }
    assert list(names.values()) == ["DOWNLOADING", "LOADED", "RUNNING", ""]
    assert of_app.state_name(999) == "UNKNOWN"  # type: ignore[arg-type]


def test_since_moves_with_the_state_alone() -> None:
    first = of_app.fill(AppInstanceStatus(), told(info.BOOTING), NOW)
    same = of_app.fill(first, told(info.BOOTING), NOW + 60)
    other = of_app.fill(same, told(info.RUNNING), NOW + 120)
    assert [s.since for s in (first, same, other)] == [
        timestamp(NOW),
        timestamp(NOW),
        timestamp(NOW + 120),
    ]


ENDED = "cannot keep running: it ended by itself with exit code 1"


def test_a_start_after_it_ended_by_itself_counts_as_a_restart() -> None:
    running = of_app.fill(AppInstanceStatus(), told(info.RUNNING, NOW), NOW)
    crashed = of_app.fill(running, told(info.HALTED, NOW, ENDED), NOW + 1)
    again = of_app.fill(crashed, told(info.RUNNING, NOW + 10), NOW + 10)
    assert again.restarts == 1
    asked = of_app.fill(again, told(info.RUNNING, NOW + 90), NOW + 90)
    assert asked.restarts == 1


def test_a_start_that_tells_of_an_end_too_short_to_be_seen_counts_as_a_restart() -> None:
    running = of_app.fill(AppInstanceStatus(), told(info.RUNNING, NOW), NOW)
    ended = told(info.RUNNING, NOW + 1, "cannot grow volume data")
    ended.appErr.add(description=ENDED)
    again = of_app.fill(running, ended, NOW + 1)
    assert again.restarts == 1
    same = of_app.fill(again, ended, NOW + 60)
    asked = of_app.fill(same, told(info.RUNNING, NOW + 90), NOW + 90)
    assert asked.restarts == 1


def test_an_error_in_the_words_of_an_eve_node_counts_as_an_end() -> None:
    running = of_app.fill(AppInstanceStatus(), told(info.RUNNING, NOW), NOW)
    crashed = of_app.fill(running, told(info.HALTING, NOW, "it crashed"), NOW + 1)
    assert of_app.fill(crashed, told(info.RUNNING, NOW + 10), NOW + 10).restarts == 1


def test_an_update_under_a_standing_warning_is_not_counted_as_a_crash() -> None:
    warning = "cannot grow volume data"
    status = of_app.fill(AppInstanceStatus(), told(info.RUNNING, NOW, warning), NOW)
    for boot in (NOW + 10, NOW + 20):
        status = of_app.fill(status, told(info.HALTED, boot - 5, warning), boot - 2)
        status = of_app.fill(status, told(info.RUNNING, boot, warning), boot)
    assert status.restarts == 0


def test_an_app_that_could_not_be_started_is_not_said_to_be_stopping() -> None:
    broken = told(info.HALTING, error="cannot create the container")
    broken.appErr[0].severity = info.SEVERITY_ERROR
    assert of_app.fill(AppInstanceStatus(), broken, NOW).what == "could not be started"
    assert of_app.fill(AppInstanceStatus(), told(info.HALTING), NOW).what == "stopping"


def test_an_app_that_waits_for_what_it_lacks_is_not_said_to_be_ready() -> None:
    waits = told(info.INSTALLED, error="cannot start: it needs 500 MiB")
    assert of_app.fill(AppInstanceStatus(), waits, NOW).what == "cannot start yet"
    assert of_app.fill(AppInstanceStatus(), told(info.INSTALLED), NOW).what == "ready to start"


def test_an_app_that_crashed_says_that_it_comes_again() -> None:
    crashed = told(info.HALTED, error="it ended by itself")
    crashed.appErr[0].retry_condition = "tried again at 2023-11-14T22:14:20Z"
    assert of_app.fill(AppInstanceStatus(), crashed, NOW).what == (
        "ended; it is started again by itself"
    )


def test_a_new_one_whose_node_is_off_says_what_it_waits_for() -> None:
    new = AppInstance(spec=AppInstanceSpec(app="hello", edge_node="far"))
    status = settle(new, None, "ben", NOW).status
    scheduled = find_condition(status.conditions, "Scheduled")
    assert scheduled is not None
    assert (status.what, scheduled.status) == ("not on the node yet", "False")
    assert scheduled.message == 'waits until EdgeNode "far" next asks for its config'
    assert settle(new, new, "ben", NOW) == new


def test_when_it_is_tried_again_is_shown() -> None:
    message = told(info.INITIAL, error="no such image")
    message.appErr[0].retry_condition = "push it; tried again at 2023-11-14T22:14:20Z"
    error = of_app.fill(AppInstanceStatus(), message, NOW).errors[0]
    assert (error.hint, error.retry_at) == ("push it", "2023-11-14T22:14:20Z")


def test_what_is_wrong_is_what_keeps_it_from_being_ready() -> None:
    status = of_app.fill(AppInstanceStatus(), told(info.ERROR, error="no memory"), NOW)
    assert ready(status) == ("False", "Failed", "no memory")
    assert status.errors[0].severity == "Error"


def test_an_app_that_is_gone_from_the_node_is_not_there() -> None:
    running = of_app.fill(AppInstanceStatus(), told(info.RUNNING), NOW)
    gone = of_app.fill(running, info.ZInfoApp(AppID="app"), NOW + 1)
    assert (gone.state, gone.what) == ("", "not on the node yet")
    assert ready(gone)[1] == "NotOnNode"


def test_volumes_come_and_go() -> None:
    volume = info.ZInfoVolume(state=info.CREATED_VOLUME, progressPercentage=100)
    volume.resources.curSizeBytes = 7
    status = of_app.fill_volume(AppInstanceStatus(), "root", volume)
    status = of_app.fill_volume(status, "data", volume)
    assert [(v.name, v.state, v.size) for v in status.volumes] == [
        ("data", "CREATED_VOLUME", 7),
        ("root", "CREATED_VOLUME", 7),
    ]
    assert status.progress == 100
    status = of_app.fill_volume(status, "data", info.ZInfoVolume())
    assert [v.name for v in status.volumes] == ["root"]


def test_the_image_s_progress_is_shown_until_the_app_itself_tells() -> None:
    tree = info.ZInfoContentTree(state=info.DOWNLOAD_STARTED, progressPercentage=40)
    status = of_app.fill_image(AppInstanceStatus(), tree, NOW)
    assert (status.what, status.progress) == ("its image: downloading", 40)
    running = of_app.fill(status, told(info.RUNNING), NOW)
    assert of_app.fill_image(running, tree, NOW).what == "running"


def image(status: AppInstanceStatus) -> tuple[str, str, str]:
    condition = find_condition(status.conditions, "ImageReady")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_an_image_that_a_running_app_cannot_change_to_is_told() -> None:
    tree = info.ZInfoContentTree(state=info.DELIVERED)
    running = of_app.fill(AppInstanceStatus(), told(info.RUNNING), NOW)
    status = of_app.fill_image(running, tree, NOW)
    assert image(status) == ("True", "Loaded", "")
    tree = info.ZInfoContentTree(state=info.RESOLVING_TAG)
    tree.err.description = "cannot resolve hello:9: the registry has no such tag"
    tree.err.retry_condition = "push it; tried again at 2023-11-14T22:13:20Z"
    why = f"{tree.err.description}; push it"
    status = of_app.fill_image(status, tree, NOW)
    assert image(status) == ("False", "Failed", why)
    assert ready(status)[0] == "True"
    instance = AppInstance(status=status)
    message = next(c for c in COLUMNS if c.name == "Message")
    assert message.cell(instance, NOW) == f"running; its image: {why}"
    gone = of_app.fill_image(status, info.ZInfoContentTree(uuid="x"), NOW)
    assert gone == status


def test_being_in_the_config_is_a_condition_of_its_own() -> None:
    status = of_app.place(AppInstanceStatus(), "", 3, "uuid", NOW)
    scheduled = find_condition(status.conditions, "Scheduled")
    assert scheduled is not None
    assert (scheduled.status, status.observed_generation) == ("True", 3)
    waiting = of_app.place(status, "cannot fetch its image: x", 4, "uuid", NOW)
    scheduled = find_condition(waiting.conditions, "Scheduled")
    assert scheduled is not None
    assert (scheduled.status, waiting.what) == ("False", "cannot fetch its image: x")


def test_the_url_is_the_node_s_address_and_the_first_port() -> None:
    addresses = [NodeAddress(address="2001:db8::1"), NodeAddress(address="192.0.2.7/24")]
    assert of_app.url_of(APP, addresses) == "http://192.0.2.7:8080"
    assert of_app.url_of(APP, []) == ""
    assert of_app.url_of(changed(APP, interfaces=()), addresses) == ""


@pytest.mark.parametrize(
    ("spec", "virtualization", "words"),
    [
        ({"type": "Container"}, "Emulated", "container in a vm, emulated"),
        ({"type": "Container", "virtualization": "None"}, "Emulated", "container"),
        ({"type": "Container", "virtualization": "HVM"}, "Hardware", "container in a vm"),
        ({"type": "VM"}, "Hardware", "vm"),
        ({"type": "VM"}, "", "vm"),
        ({"type": "Unikernel"}, "Emulated", "unikernel, emulated"),
    ],
)
def test_what_an_app_runs_as_and_whether_it_is_emulated(
    spec: dict[str, str], virtualization: str, words: str
) -> None:
    assert of_app.runs_as(changed(APP, **spec), virtualization) == words


@pytest.mark.parametrize(
    ("state", "runs_as", "words"),
    [
        ("BOOTING", "container in a vm, emulated", "starting; emulated, which takes a while"),
        ("BOOTING", "container in a vm", "starting"),
        ("RUNNING", "container in a vm, emulated", "running"),
    ],
)
def test_a_start_that_takes_long_says_why(state: str, runs_as: str, words: str) -> None:
    what = {"BOOTING": "starting", "RUNNING": "running"}[state]
    told = of_app.starting(AppInstanceStatus(state=state, what=what, runs_as=runs_as))
    assert told.what == words
