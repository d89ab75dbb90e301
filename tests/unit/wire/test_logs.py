"""What would be lost, refused or let in if log bundles were made or read otherwise."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.wire import limits, logs
from edgevirt.wire.errors import Reason
from edgevirt.wire.logs import (
    AppHeader,
    Bundle,
    BundleWriter,
    LogEntry,
    LogsError,
    Moment,
    NodeHeader,
    ServerMetrics,
)

NODE = NodeHeader(dev_id="a4f4", image="IMGA", version="16.2.0-kvm")
CREATED = 1733399305
MAX_SIZE = limits.LOG_BUNDLE_MAX
MAX_BODY = 1_000_000
STOCK_LINE = (
    b'{"severity":"info","source":"zedagent","iid":"2069","content":"{\\"level\\":\\"info\\"}",'
    b'"msgid":29839,"timestamp":{"seconds":1733399305,"nanos":873489712},'
    b'"filename":"/pillar/agent.go","function":"main.run"}'
)
STOCK_ENTRY = LogEntry(
    severity="info",
    source="zedagent",
    iid="2069",
    content='{"level":"info"}',
    msgid=29839,
    timestamp=Moment(1733399305, 873489712),
    filename="/pillar/agent.go",
    function="main.run",
)
MOMENTS = st.builds(Moment, st.integers(0, 2**40), st.integers(0, 10**9 - 1))
ENTRIES = st.builds(
    LogEntry,
    severity=st.sampled_from(["", "info", "error"]),
    source=st.text(max_size=10),
    content=st.text(max_size=50),
    msgid=st.integers(0, 2**63 - 1),
    tags=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
    timestamp=MOMENTS,
)


def packed(entries: list[LogEntry], header: NodeHeader | AppHeader = NODE) -> bytes:
    writer = BundleWriter(header, CREATED)
    for entry in entries:
        assert writer.add(entry)
    return writer.finish()


def stock(body: bytes, comment: bytes | None = b"{}", name: bytes | None = None) -> bytes:
    """A bundle as any gzip library writes it, header texts put in by hand."""
    member = gzip.compress(body, mtime=CREATED)
    flags = (8 if name is not None else 0) | (16 if comment is not None else 0)
    texts = b"".join(text + b"\0" for text in (name, comment) if text is not None)
    return member[:3] + bytes((flags,)) + member[4:10] + texts + member[10:]


def refusal(raw: bytes, max_size: int = MAX_SIZE, max_body: int = MAX_BODY) -> Reason:
    with pytest.raises(LogsError) as caught:
        list(logs.entries(logs.unpack_node(raw, max_size, max_body)))
    assert str(caught.value).startswith("cannot ")
    return caught.value.reason


@given(st.lists(ENTRIES, max_size=20))
def test_lines_would_be_lost_or_altered_on_the_way(entries: list[LogEntry]) -> None:
    bundle = logs.unpack_node(packed(entries), MAX_SIZE, MAX_BODY)
    assert (bundle.header, bundle.created) == (NODE, CREATED)
    assert list(logs.entries(bundle)) == entries


def test_a_stock_controller_would_refuse_our_bundle() -> None:
    raw = packed([STOCK_ENTRY])
    assert gzip.decompress(raw) == STOCK_LINE + b"\n"
    comment = raw[10 : raw.index(b"\0", 10)]
    assert json.loads(comment) == {"devID": "a4f4", "image": "IMGA", "eveVersion": "16.2.0-kvm"}
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as member:
        member.read()
        assert member.mtime == CREATED


def test_a_node_without_an_identity_would_send_an_empty_one() -> None:
    raw = packed([], NodeHeader(image="IMGB"))
    assert raw[10 : raw.index(b"\0", 10)] == b'{"image":"IMGB"}'


def test_a_stock_node_s_bundle_would_be_refused() -> None:
    raw = stock(STOCK_LINE + b"\n", b'{"devID":"x","image":"IMGB","eveVersion":"1","new":1}')
    bundle = logs.unpack_node(raw, MAX_SIZE, MAX_BODY)
    assert bundle.header == NodeHeader("x", "IMGB", "1")
    assert list(logs.entries(bundle)) == [STOCK_ENTRY]


def test_an_app_s_lines_would_lose_its_name() -> None:
    raw = packed([STOCK_ENTRY], AppHeader("café №1\0"))
    bundle = logs.unpack_app(raw, MAX_SIZE, MAX_BODY)
    assert bundle.header == AppHeader("café \\u21161")
    assert list(logs.entries(bundle)) == [STOCK_ENTRY]
    unnamed = logs.unpack_app(stock(STOCK_LINE, None), MAX_SIZE, MAX_BODY)
    assert unnamed.header == AppHeader("")


def test_an_endless_name_would_fill_the_bundle() -> None:
    raw = packed([], AppHeader("n" * 100_000))
    assert logs.unpack_app(raw, MAX_SIZE, MAX_BODY).header == AppHeader("n" * 255)
    with pytest.raises(LogsError) as caught:
        BundleWriter(NodeHeader(dev_id="n" * 100_000), CREATED)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("entropy", [0, 1, 40, 4000])
def test_a_node_would_delete_our_bundle_unsent_or_send_it_nearly_empty(entropy: int) -> None:
    source = random.Random(entropy)
    writer = BundleWriter(NODE, CREATED)
    taken: list[LogEntry] = []
    while True:
        content = f"port eth{len(taken) % 4} is up " + source.randbytes(entropy).hex()
        entry = LogEntry(content=content, msgid=len(taken))
        if not writer.add(entry):
            break
        taken.append(entry)
    assert not writer.add(entry)
    raw = writer.finish()
    assert limits.LOG_BUNDLE_TARGET * 0.8 < len(raw) <= limits.LOG_BUNDLE_TARGET
    assert list(logs.entries(logs.unpack_node(raw, MAX_SIZE, 100 * MAX_BODY))) == taken


def test_the_longest_line_would_not_fit_into_an_empty_bundle() -> None:
    noise = "".join(chr(random.Random(1).randrange(33, 127)) for _ in range(10)) * 3000
    entry = LogEntry(content=noise.replace('"', "_").replace("\\", "_"))
    assert BundleWriter(NODE, CREATED, logs.MAX_LINE + 5000).add(entry)
    with pytest.raises(LogsError):
        BundleWriter(NODE, CREATED, logs.MAX_LINE)


def test_a_line_that_no_bundle_takes_would_be_tried_forever() -> None:
    writer = BundleWriter(NODE, CREATED)
    with pytest.raises(LogsError) as caught:
        writer.add(LogEntry(content="x" * logs.MAX_LINE))
    assert caught.value.reason is Reason.TOO_LARGE
    assert writer.add(STOCK_ENTRY)
    assert gzip.decompress(writer.finish()) == STOCK_LINE + b"\n"


def test_a_broken_character_would_kill_the_logger() -> None:
    with pytest.raises(LogsError) as caught:
        BundleWriter(NODE, CREATED).add(LogEntry(content="\ud800"))
    assert caught.value.reason is Reason.MALFORMED


def test_a_small_bundle_would_unpack_to_any_size() -> None:
    bomb = stock(b"\n" * 20_000_000)
    assert len(bomb) < MAX_SIZE
    assert refusal(bomb) is Reason.TOO_LARGE
    exact = stock(b"\n" * 1000)
    assert logs.unpack_node(exact, MAX_SIZE, 1000).body == b"\n" * 1000
    assert refusal(exact, max_body=999) is Reason.TOO_LARGE


def test_a_large_bundle_would_be_read() -> None:
    raw = stock(STOCK_LINE)
    logs.unpack_node(raw, len(raw), MAX_BODY)
    assert refusal(raw, max_size=len(raw) - 1) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "line",
    [
        b'{"msgid":"1"}',
        b'{"timestamp":"2026-01-01T00:00:00Z"}',
        b'{"timestamp":{"nanos":1000000000}}',
        b'{"msgid":-1}',
        b'{"msgid":1e400}',
        b'{"msgid":99999999999999999999999}',
        b'{"content":',
        b'{"content":"\xff"}',
        b"[]",
        b"null",
        b"[" * 20_000,
        b'{"unknown":' + b"[" * 20_000,
    ],
)
def test_a_line_of_another_form_would_be_accepted(line: bytes) -> None:
    assert refusal(stock(STOCK_LINE + b"\n" + line + b"\n")) is Reason.MALFORMED


def test_one_bad_line_would_hide_the_good_ones_before_it() -> None:
    bundle = Bundle(NODE, 0, STOCK_LINE + b"\n\n[]")
    decoded = logs.entries(bundle)
    assert next(decoded) == STOCK_ENTRY
    with pytest.raises(LogsError, match="line 3"):
        next(decoded)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x1f\x8b\x08",
        stock(STOCK_LINE, comment=None),
        stock(STOCK_LINE, comment=b"not JSON"),
        stock(STOCK_LINE, comment=b'{"devID":1}'),
        stock(STOCK_LINE, comment=b"[]"),
        stock(STOCK_LINE, comment=b'{"devID":"\xff"}'),
        stock(STOCK_LINE, comment=b" " * 5000 + b"{}"),
        stock(STOCK_LINE) + b"more",
        stock(STOCK_LINE) + stock(STOCK_LINE),
        zlib.compress(STOCK_LINE),
    ],
)
def test_what_is_no_single_bundle_would_be_accepted(raw: bytes) -> None:
    assert refusal(raw) is Reason.MALFORMED


@given(st.data())
def test_a_truncated_bundle_would_be_accepted(data: st.DataObject) -> None:
    raw = stock(STOCK_LINE)
    assert refusal(raw[: data.draw(st.integers(0, len(raw) - 1))]) is Reason.MALFORMED


@given(st.binary(max_size=100), st.integers(0, 255))
def test_garbage_would_raise_what_no_caller_expects(rest: bytes, flags: int) -> None:
    raw = b"\x1f\x8b\x08" + bytes((flags,)) + rest
    for unpack in (logs.unpack_node, logs.unpack_app):
        with pytest.raises(LogsError):
            unpack(raw, MAX_SIZE, MAX_BODY)


@given(st.data())
def test_a_flipped_bit_in_the_body_would_be_accepted(data: st.DataObject) -> None:
    raw = bytearray(stock(STOCK_LINE))
    start = raw.index(b"\0", 10) + 1
    bit = data.draw(st.integers(start * 8, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        bundle = logs.unpack_node(bytes(raw), MAX_SIZE, MAX_BODY)
    except LogsError:
        return
    assert bundle.body == STOCK_LINE  # padding after the last deflate block means nothing


def test_a_node_would_misread_how_busy_the_controller_is() -> None:
    metrics = ServerMetrics(cpu_percentage=12.5, log_process_delay_msec=30)
    raw = logs.encode_metrics(metrics)
    assert json.loads(raw) == {"cpu_percentage": 12.5, "log_process_delay_msec": 30}
    assert logs.decode_metrics(raw) == metrics
    assert logs.decode_metrics(b"") == ServerMetrics()
    for bad in (b"{", b"[]", b'{"cpu_percentage":"high"}'):
        with pytest.raises(LogsError):
            logs.decode_metrics(bad)
