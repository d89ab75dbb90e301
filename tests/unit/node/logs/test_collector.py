"""Logs: nothing that was written is lost, and what is safe takes no room."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevirt.node.logs.collector import MAX_AGE, AppNames, Collector
from edgevirt.node.logs.shelf import KEPT, WAITING_APP, Shelf, Shelved
from edgevirt.node.logs.tail import MAX_LINE, Mark, Tail
from edgevirt.wire.logs import LogEntry, NodeHeader, entries, unpack_app, unpack_node

NODE = "6a1f4c7e-0000-4000-8000-000000000001"
APP = "6a1f4c7e-0000-4000-8000-000000000002"
NAMES = {APP: AppNames(display="till", task=f"{APP}.1.1")}
NOW = 1_700_000_000.0


class Bench:
    """A collector over real files, and what it announced."""

    def __init__(self, root: Path) -> None:
        self.services, self.consoles = root / "services", root / "consoles"
        self.services.mkdir(exist_ok=True)
        self.consoles.mkdir(exist_ok=True)
        self.shelf = Shelf(root / "newlog")
        self.shelf.prepare()
        self.announced: list[Shelved] = []
        self.root = root
        self.now = NOW
        self.collector = self.new_collector()

    def new_collector(self) -> Collector:
        return Collector(
            self.services,
            self.consoles,
            self.root / "newlog" / "marks.json",
            self.shelf,
            NodeHeader(image="IMGA"),
            self.announced.append,
        )

    def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.collector.turn(self.now, NAMES, NODE)

    def write(self, path: Path, *lines: str) -> None:
        with path.open("a") as file:
            file.writelines(line + "\n" for line in lines)

    def lines(self) -> list[str]:
        found: list[LogEntry] = []
        for bundle in self.announced:
            raw = bundle.path.read_bytes()
            unpack = unpack_app if bundle.app else unpack_node
            found += entries(unpack(raw, 65_536, 10_000_000))
        return [entry.content for entry in found]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_services_entry_reaches_a_bundle_with_its_level_and_time(bench: Bench) -> None:
    line = (
        '{"severity":"warning","iid":"7","content":"no route",'
        '"timestamp":{"seconds":1699999999,"nanos":500000000},"filename":"link.py:7"}'
    )
    bench.write(bench.services / "agent.log", line, "Traceback of a crash")
    bench.turn()
    bench.turn(MAX_AGE)
    raw = bench.announced[0].path.read_bytes()
    bundle = unpack_node(raw, 65_536, 100_000)
    entry, text = entries(bundle)
    assert bundle.header == NodeHeader(dev_id=NODE, image="IMGA")
    assert (entry.severity, entry.source, entry.iid) == ("warning", "agent", "7")
    assert (entry.timestamp.seconds, entry.timestamp.nanos) == (1_699_999_999, 500_000_000)
    assert entry.content == "no route"
    assert (text.content, text.timestamp.seconds) == ("Traceback of a crash", int(NOW))


def test_a_consoles_line_is_told_by_its_task_and_stream(bench: Bench) -> None:
    bench.write(
        bench.consoles / f"{APP}.log",
        "2023-11-14T22:13:20.250000000+00:00 stdout F ready",
        "2023-11-14T22:13:21.000000000+00:00 stderr F oh no",
    )
    bench.turn()
    bench.turn(MAX_AGE)
    found = list(entries(unpack_app(bench.announced[0].path.read_bytes(), 65_536, 100_000)))
    assert [(e.severity, e.content) for e in found] == [("info", "ready"), ("error", "oh no")]
    assert {e.source for e in found} == {f"{APP}.1.1"}
    assert found[0].timestamp.seconds == 1_700_000_000
    assert [e.msgid for e in found] == [1, 2]


def test_lines_read_but_not_bundled_before_a_crash_are_read_again(bench: Bench) -> None:
    bench.write(bench.services / "agent.log", "one", "two")
    bench.turn()
    assert bench.announced == []
    bench.collector = bench.new_collector()
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["one", "two"]


def test_a_restart_goes_on_where_the_durable_bundles_end(bench: Bench) -> None:
    bench.write(bench.services / "agent.log", "one")
    bench.turn()
    bench.turn(MAX_AGE)
    bench.collector = bench.new_collector()
    bench.write(bench.services / "agent.log", "two")
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["one", "two"]


def test_a_full_disk_loses_no_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(bench.services / "agent.log", "one", "two")
    bench.turn()
    put: Callable[..., Shelved] = bench.shelf.put

    def full(*args: object, **kwargs: object) -> Shelved:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(bench.shelf, "put", full)
    with pytest.raises(OSError, match="no space left"):
        bench.turn(MAX_AGE)
    bench.collector.rewind()
    monkeypatch.setattr(bench.shelf, "put", put)
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["one", "two"]


def test_a_rotated_console_is_read_to_its_end_first(bench: Bench) -> None:
    path = bench.consoles / f"{APP}.log"
    bench.write(path, "first")
    bench.turn()
    bench.write(path, "last of the old")
    path.rename(path.with_suffix(".old"))
    bench.write(path, "first of the new")
    for _ in range(3):
        bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["first", "last of the old", "first of the new"]


def test_the_last_words_of_an_app_that_is_removed_are_not_lost(bench: Bench) -> None:
    path = bench.consoles / f"{APP}.log"
    bench.write(path, "first")
    bench.turn()
    bench.write(path, "last")
    path.unlink()
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["first", "last"]
    bench.turn()
    bench.write(path, "of its successor")
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["first", "last", "of its successor"]


def test_a_file_that_has_the_inode_of_the_one_before_is_read_from_its_begin(bench: Bench) -> None:
    """A file system gives a number to the next one when the last who had it open is gone."""
    path, aside = bench.consoles / f"{APP}.log", bench.consoles / "aside"
    bench.write(path, "first")
    os.link(path, aside)
    bench.turn()
    path.unlink()
    bench.turn()
    bench.turn(MAX_AGE)
    bench.turn()
    aside.write_text("")
    aside.rename(path)
    bench.write(path, "of its successor")
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["first", "of its successor"]


def test_what_is_bundled_takes_no_disk_blocks_any_more(bench: Bench) -> None:
    path = bench.services / "agent.log"
    bench.write(path, *[f"{n:060d}" for n in range(2000)])
    before = path.stat().st_blocks
    bench.turn()
    bench.turn(MAX_AGE)
    assert path.stat().st_blocks < before / 4
    bench.write(path, "after the hole")
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines()[-1] == "after the hole"


def test_many_lines_make_several_bundles_each_below_the_limit(bench: Bench) -> None:
    wanted = [os.urandom(400).hex() for _ in range(300)]
    bench.write(bench.services / "agent.log", *wanted)
    for _ in range(4):
        bench.turn()
    bench.turn(MAX_AGE)
    assert len(bench.announced) > 1
    assert all(bundle.size <= 50_000 for bundle in bench.announced)
    assert bench.lines() == wanted


def test_logs_of_an_app_that_must_stay_are_kept_and_not_announced(bench: Bench) -> None:
    bench.write(bench.consoles / f"{APP}.log", "private")
    names = {APP: AppNames(display="till", task="t", stays=True)}
    bench.collector.turn(bench.now, names, NODE)
    bench.collector.turn(bench.now + MAX_AGE, names, NODE)
    assert bench.announced == []
    [kept] = (bench.root / "newlog" / KEPT).glob("skipTx.app.*.gz")
    assert b"private" in unpack_app(kept.read_bytes(), 65_536, 100_000).body


def test_the_quota_takes_sent_bundles_before_those_that_wait(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.prepare()
    sent = shelf.put(b"x" * 1000, "", NOW, stays=False)
    shelf.sent(sent.name)
    old = shelf.put(b"x" * 1000, "", NOW + 1, stays=False)
    app = shelf.put(b"x" * 1000, APP, NOW, stays=False)
    assert shelf.evict(2000) == []
    assert [b.name for b in shelf.waiting()] == [app.name, old.name]
    assert shelf.evict(1000) == [old.name]
    assert [b.name for b in shelf.waiting()] == [app.name]
    assert (tmp_path / WAITING_APP / app.name).exists()


def test_a_refused_bundle_blocks_nobody_and_is_kept_aside(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.prepare()
    poison = shelf.put(b"bad", "", NOW, stays=False)
    good = shelf.put(b"good", "", NOW, stays=False)
    assert poison.name != good.name
    shelf.refused(poison.name)
    assert [b.name for b in shelf.waiting()] == [good.name]
    assert (tmp_path / "failedUpload" / poison.name).read_bytes() == b"bad"


def test_a_line_without_end_waits_and_an_endless_one_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"whole\nhal")
    tail = Tail(path, Mark())
    assert tail.read() == [b"whole"]
    with path.open("ab") as file:
        file.write(b"f\n" + b"y" * (MAX_LINE + 5))
    assert tail.read() == [b"half", b"y" * MAX_LINE]
    tail.close()


def test_a_repeated_line_within_the_window_is_left_out(bench: Bench) -> None:
    bench.collector.dedup.window = 2
    bench.write(bench.services / "agent.log", "a", "a", "b", "a", "c", "d", "a")
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["a", "b", "c", "d", "a"]


def stamped(text: str, end: str = "F", stream: str = "stdout") -> str:
    return f"2026-11-29T23:36:43.116202091+00:00 {stream} {end} {text}"


def test_a_console_line_that_came_in_pieces_is_one_line(bench: Bench) -> None:
    app = bench.consoles / f"{APP}.log"
    bench.write(app, stamped("r", "P"))
    bench.turn()
    bench.write(app, stamped("ea", "P"), stamped("dy"), stamped("next"))
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["ready", "next"]


def test_a_prompt_is_told_though_its_line_never_ends(bench: Bench) -> None:
    app = bench.consoles / f"{APP}.log"
    bench.write(app, stamped("login: ", "P"))
    bench.turn()
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["login: "]


def test_pieces_of_two_streams_are_no_line(bench: Bench) -> None:
    app = bench.consoles / f"{APP}.log"
    bench.write(app, stamped("a", "P"), stamped("b", "P", "stderr"), stamped("c", stream="stderr"))
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["a", "bc"]


def test_the_last_piece_of_a_console_that_is_gone_is_not_lost(bench: Bench) -> None:
    app = bench.consoles / f"{APP}.log"
    bench.write(app, stamped("begun"))
    bench.turn()
    bench.write(app, stamped("cut off", "P"))
    app.unlink()
    bench.turn()
    bench.turn(MAX_AGE)
    assert bench.lines() == ["begun", "cut off"]


def test_a_line_of_pieces_without_end_is_bounded(bench: Bench) -> None:
    app = bench.consoles / f"{APP}.log"
    bench.write(app, *[stamped("x" * 8_000, "P") for _ in range(5)])
    bench.turn()
    bench.turn()
    bench.turn(MAX_AGE)
    assert "".join(bench.lines()) == "x" * 40_000
