"""logs and top: what nodes sent, readable."""

from __future__ import annotations

import json
import time

from edgevirt.cli.telemetry import node_line
from edgevirt.fleet.telemetry import Stream
from edgevirt.wire import logs
from tests.parts.command_line import CommandLine
from tests.parts.device_client import bundle, metric


def _log(cli: CommandLine, node: str, lines: list[str], app: str = "", at: float = 0) -> None:
    header = logs.AppHeader("hello") if app else logs.NodeHeader(node, "IMGA", "1")
    at = at or time.time()
    sent = bundle(lines, header, at)
    cli.fleet.do(cli.fleet.report(Stream.LOGS, node, app, at, sent))


def test_an_apps_log_is_what_it_printed(cli: CommandLine) -> None:
    cli.node("alpha")
    uid = cli.app_on("alpha")["metadata"]["uid"]
    _log(cli, cli.bind("alpha"), ["visit 1", "visit 2"], uid)
    assert cli.out("logs", "hello") == "visit 1\nvisit 2\n"
    stamped = cli.out("logs", "hello", "--timestamps").splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["visit 1", "visit 2"]


def test_the_tail_and_the_age_bound_what_is_shown(cli: CommandLine) -> None:
    cli.node("alpha")
    node = cli.bind("alpha")
    _log(cli, node, ["old"], at=time.time() - 3600)
    _log(cli, node, ["new 1", "new 2"])
    assert cli.out("logs", "node/alpha", "--tail", "1").rstrip().endswith("new 2")
    assert len(cli.out("logs", "node/alpha", "--tail", "-1").splitlines()) == 3
    recent = cli.out("logs", "node/alpha", "--since", "30m")
    assert "new 1" in recent
    assert "old" not in recent


def test_a_nodes_log_has_time_service_level_and_text_in_columns(cli: CommandLine) -> None:
    cli.node("alpha")
    _log(cli, cli.bind("alpha"), ["onboarded"])
    stamp, service, level, text = cli.out("logs", "node/alpha").split()
    assert stamp.endswith("Z")
    assert (service, level, text) == ("tests", "info", "onboarded")


def test_a_log_is_followed(cli: CommandLine) -> None:
    cli.node("alpha")
    node = cli.bind("alpha")
    _log(cli, node, ["first"])
    with cli.running("logs", "node/alpha", "-f") as follow:
        follow.line("first")
        _log(cli, node, ["second"])
        follow.line("second")
        code, said = follow.interrupt()
    assert (code, said.strip()) == (130, "")


def test_a_node_without_a_machine_has_no_log_and_says_so(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "no machine is EdgeNode" in cli.refused("logs", "node/alpha")


def test_kinds_without_logs_are_refused(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    assert "app instances and nodes have them" in cli.refused("logs", "app/hello")


def test_a_line_of_a_stock_eve_service_shows_its_message() -> None:
    entry = {"level": "error", "msg": "cannot dial\n", "error": "timeout", "pid": 7}
    line = f"2026-05-01T10:20:30.000Z error nim: {json.dumps(entry)}"
    assert node_line(line).endswith("cannot dial: timeout")


def test_a_line_that_is_json_of_another_kind_stays_as_it_is() -> None:
    for text in ('{"a": 1}', '{"msg": 1}', "{broken", "[1]"):
        line = node_line(f"2026-05-01T10:20:30.000Z info agent: {text}")
        assert line.endswith(text)
    assert node_line("no form at all") == "no form at all"


def test_top_shows_what_nodes_use(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.node("beta")
    node, now = cli.bind("alpha"), time.time()
    for seconds, cpu in ((-60, 0), (0, 30_000_000_000)):
        message = metric(now + seconds, cpu)
        report = cli.fleet.report(
            Stream.METRICS, node, "", now + seconds, message.SerializeToString()
        )
        cli.fleet.do(report)
    header, alpha, beta = (line.split() for line in cli.out("top").splitlines())
    assert header[:3] == ["NAME", "CPU", "MEMORY"]
    assert alpha[:4] == ["alpha", "500m", "100Mi/400Mi", "(25%)"]
    assert beta == ["beta", "-", "-", "-", "-", "-", "never"]


def test_top_of_apps_names_their_nodes(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    cli.bind("alpha")
    header, row = (line.split() for line in cli.out("top", "apps", "hello").splitlines())
    assert header[:2] == ["NAME", "NODE"]
    assert row[:2] == ["hello", "alpha"]


def test_top_of_nothing_is_no_error(cli: CommandLine) -> None:
    result = cli.run("top")
    assert (result.exit_code, result.stderr) == (0, "there are no edgenodes\n")


def test_an_empty_log_is_told_with_what_the_app_does(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    cli.bind("alpha")
    told = {"status": {"state": "HALTING", "what": "could not be started"}}
    cli.patch("AppInstance", "hello", told, "status")
    result = cli.run("logs", "hello")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "appinstance/hello has printed nothing yet; it is HALTING: could not be started\n"
    )


def test_a_node_asked_for_its_log_like_an_app_is_told_the_way(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "edgevirt logs node/alpha" in cli.refused("logs", "alpha")
