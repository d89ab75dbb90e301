"""describe and events: what people read when something is wrong."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from tests.parts.command_line import CommandLine


def _stamp(seconds_ago: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(cli: CommandLine, body: dict[str, Any], reason: str, **more: Any) -> None:
    meta = body["metadata"]
    involved = {
        "kind": body["kind"],
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
    }
    told = {"involvedObject": involved, "reason": reason, "message": f"it is {reason}", **more}
    cli.create("Event", f"{meta['name']}.{reason.lower()}", told)


def test_conditions_are_a_table_with_ages(cli: CommandLine) -> None:
    cli.node("alpha")
    condition = {
        "type": "Online",
        "status": "False",
        "lastTransitionTime": _stamp(1200),
        "reason": "Silent",
        "message": "not heard since",
    }
    cli.patch("EdgeNode", "alpha", {"status": {"conditions": [condition]}}, "status")
    lines = cli.out("describe", "node", "alpha").splitlines()
    table = lines[lines.index("Conditions:") + 1 :]
    assert table[0].split() == ["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"]
    assert table[1].split() == ["Online", "False", "20m", "Silent", "not", "heard", "since"]


def test_a_column_is_headed_by_words_and_bytes_are_told_as_people_read_them(
    cli: CommandLine,
) -> None:
    cli.node("alpha")
    adapters = [{"group": "com2", "type": "Serial", "usedBy": "plc-1"}]
    status = {"status": {"adapters": adapters, "memory": 2 << 30}}
    cli.patch("EdgeNode", "alpha", status, "status")
    text = cli.out("describe", "node/alpha")
    assert "USED BY" in text
    assert "2Gi (2147483648 bytes)" in text


def test_times_are_told_as_people_think_of_them(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.patch("EdgeNode", "alpha", {"status": {"lastSeen": _stamp(1200)}}, "status")
    text = cli.out("describe", "node/alpha")
    assert "lastSeen:" in text
    assert "20m ago (" in text


def test_managed_fields_and_certificates_do_not_fill_the_screen(cli: CommandLine) -> None:
    cli.node("alpha")
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    cli.patch("EdgeNode", "alpha", {"status": {"deviceCertificate": pem}}, "status")
    text = cli.out("describe", "node/alpha")
    assert "<certificate>" in text
    assert "MIIB" not in text
    assert "anaged" not in text


def test_lists_of_flat_things_are_tables_and_sizes_are_readable(cli: CommandLine) -> None:
    cli.node("alpha")
    address = {"port": "eth0", "address": "192.0.2.7", "mac": "02:00:00:00:00:01", "up": True}
    status = {"addresses": [address], "memory": 8 << 30}
    cli.patch("EdgeNode", "alpha", {"status": status}, "status")
    lines = [line.split() for line in cli.out("describe", "node/alpha").splitlines()]
    assert ["PORT", "ADDRESS", "MAC", "UP"] in lines
    assert ["eth0", "192.0.2.7", "02:00:00:00:00:01", "true"] in lines
    assert ["memory:", "8Gi", "(8589934592", "bytes)"] in lines


def test_what_a_node_reports_cannot_write_to_the_terminal(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.patch("EdgeNode", "alpha", {"status": {"hostname": "a\x1b[2Jb"}}, "status")
    assert "\x1b" not in cli.out("describe", "node/alpha")


def test_a_secret_shows_sizes_and_no_values(cli: CommandLine) -> None:
    cli.create("Secret", "login", {"stringData": {"password": "hunter2"}})
    text = cli.out("describe", "secret/login")
    assert "password:  7 bytes" in text
    assert "hunter2" not in text
    assert base64.b64encode(b"hunter2").decode() not in text


def test_events_of_the_object_itself_stand_below_it(cli: CommandLine) -> None:
    alpha, beta = cli.node("alpha"), cli.node("beta")
    _event(cli, alpha, "Online", lastTimestamp=_stamp(1200))
    _event(cli, beta, "Offline", lastTimestamp=_stamp(1200))
    text = cli.out("describe", "node/alpha")
    assert ["20m", "Normal", "Online", "it", "is", "Online"] in [
        line.split() for line in text.splitlines()
    ]
    assert "Offline" not in text


def test_an_object_without_events_says_so(cli: CommandLine) -> None:
    cli.node("alpha")
    assert cli.out("describe", "node/alpha").endswith("Events:  <none>\n")


def test_several_objects_are_described_and_a_missing_one_is_told(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.node("beta")
    result = cli.run("describe", "nodes", "alpha", "gamma", "beta")
    assert result.exit_code == 1
    assert "alpha" in result.stdout
    assert "beta" in result.stdout
    assert '"gamma" not found' in result.stderr


def test_describing_a_whole_kind_by_accident_is_refused(cli: CommandLine) -> None:
    assert "cannot tell which edgenodes are meant" in cli.refused("describe", "nodes")


def test_events_come_oldest_first_with_their_counts(cli: CommandLine) -> None:
    alpha = cli.node("alpha")
    _event(cli, alpha, "Late", lastTimestamp=_stamp(60))
    _event(cli, alpha, "Early", lastTimestamp=_stamp(1200), count=3)
    header, first, second = cli.out("events").splitlines()
    assert header.split()[:3] == ["LAST", "SEEN", "TYPE"]
    assert first.split()[:4] == ["20m", "(x3)", "Normal", "Early"]
    assert second.split()[2] == "Late"


def test_events_can_be_of_one_object_or_of_one_type(cli: CommandLine) -> None:
    alpha, beta = cli.node("alpha"), cli.node("beta")
    _event(cli, alpha, "Fine", lastTimestamp=_stamp(1))
    _event(cli, beta, "Broken", lastTimestamp=_stamp(1), type="Warning")
    assert "Broken" not in cli.out("events", "--for", "node/alpha")
    assert "Fine" not in cli.out("events", "--type", "Warning")


def test_no_events_is_no_error(cli: CommandLine) -> None:
    result = cli.run("events")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing happened" in result.stderr


def test_events_can_be_followed(cli: CommandLine) -> None:
    alpha = cli.node("alpha")
    _event(cli, alpha, "First", lastTimestamp=_stamp(1))
    with cli.running("events", "-w") as watch:
        watch.line("First")
        _event(cli, alpha, "Second", lastTimestamp=_stamp(0))
        watch.line("Second")
