"""The compiled definitions hold what the table of the EVE API holds, and nothing besides."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool

import edgevirt.wire

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "tests/golden/wire/fields.csv"
PROTO = Path(edgevirt.wire.__path__[0]) / "proto"
Row = tuple[str, ...]

Field = descriptor_pb2.FieldDescriptorProto
TYPES = {number: name[5:].lower() for name, number in Field.Type.items()}


def file_names() -> list[str]:
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def compiled() -> Iterator[Row]:
    """Every fact of the compiled files, in the table's own columns."""
    for name in file_names():
        importlib.import_module(f"edgevirt.wire.gen.{name[:-6].replace('/', '.')}_pb2")
        file = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
        assert file.syntax == "proto3"
        scope = (file.package, file.name)
        for message in file.message_type:
            yield from message_rows(scope, file.package, message)
        for enum in file.enum_type:
            yield from enum_rows(scope, file.package, enum)


def message_rows(scope: Row, outer: str, message: descriptor_pb2.DescriptorProto) -> Iterator[Row]:
    parent = f"{outer}.{message.name}"
    maps = {
        f".{parent}.{nested.name}": nested
        for nested in message.nested_type
        if nested.options.map_entry
    }
    for reserved in message.reserved_range:
        yield ("reserved", *scope, parent, "", f"{reserved.start}-{reserved.end - 1}") + ("",) * 8
    if not message.field and not message.reserved_range:
        yield ("empty_message", *scope, parent) + ("",) * 10
    for field in message.field:
        yield field_row(scope, parent, message, field, maps.get(field.type_name))
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from message_rows(scope, parent, nested)
    for enum in message.enum_type:
        yield from enum_rows(scope, parent, enum)


def field_row(
    scope: Row,
    parent: str,
    message: descriptor_pb2.DescriptorProto,
    field: descriptor_pb2.FieldDescriptorProto,
    entry: descriptor_pb2.DescriptorProto | None,
) -> Row:
    oneof, label = "", "optional"
    if field.proto3_optional:
        label = "optional(explicit)"
    elif field.HasField("oneof_index"):
        oneof = message.oneof_decl[field.oneof_index].name
    if field.label == Field.LABEL_REPEATED:
        label = "repeated"
    kind, type_name, key, value = TYPES[field.type], field.type_name[1:], "", ""
    if entry is not None:
        kind, type_name, label = "map", "", "map"
        key = TYPES[entry.field[0].type]
        value = entry.field[1].type_name[1:] or TYPES[entry.field[1].type]
    deprecated = str(int(field.options.deprecated))
    runtime = descriptor_pool.Default().FindMessageTypeByName(parent)
    json_name = runtime.fields_by_number[field.number].json_name
    return (
        *("field", *scope, parent, field.name, str(field.number), kind, type_name, label, oneof),
        *(key, value, json_name, deprecated),
    )


def enum_rows(scope: Row, outer: str, enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[Row]:
    parent = f"{outer}.{enum.name}"
    for reserved in enum.reserved_range:
        span = f"{reserved.start}-{reserved.end}"
        yield ("enum_reserved", *scope, parent, "", span) + ("",) * 8
    for value in enum.value:
        deprecated = str(int(value.options.deprecated))
        yield (
            *("enum_value", *scope, parent, value.name, str(value.number), "enum", parent),
            *("", "", "", "", "", deprecated),
        )


def single_reservations(rows: list[Row]) -> list[Row]:
    """Split a reserved range into its numbers: 3-4 and 3-3, 4-4 reserve the same."""
    split: list[Row] = []
    for row in rows:
        if "reserved" not in row[0]:
            split.append(row)
            continue
        first, last = (int(number) for number in row[5].split("-"))
        split += [(*row[:5], str(number), *row[6:]) for number in range(first, last + 1)]
    return split


def table() -> list[Row]:
    with TABLE.open(newline="") as lines:
        return [tuple(row) for row in csv.reader(lines)][1:]


def test_a_peer_would_misread_us_if_any_field_or_value_differed_from_the_table() -> None:
    ours, facts = single_reservations(list(compiled())), single_reservations(table())
    assert set(ours) - set(facts) == set()
    assert set(facts) - set(ours) == set()
    assert len(ours) == len(facts)


def test_the_table_would_prove_nothing_if_it_were_cut_short() -> None:
    kinds = [row[0] for row in table()]
    assert (kinds.count("field"), kinds.count("enum_value")) == (1737, 648)
    assert len(file_names()) == 45


def test_a_slow_protobuf_back_end_would_go_unnoticed() -> None:
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run(
        [sys.executable, "-c", "import edgevirt.wire.messages.auth"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "cannot use protobuf's 'python' back end" in done.stderr


def test_importing_one_package_would_load_all_of_them() -> None:
    script = (
        "import sys, edgevirt.wire.messages.auth\n"
        "loaded = [name for name in sys.modules if name.endswith('_pb2') and 'wire.gen' in name]\n"
        "print(*sorted(name.removeprefix('edgevirt.wire.gen.') for name in loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "auth.auth_pb2",
        "evecommon.acipherinfo_pb2",
        "evecommon.evecommon_pb2",
    ]
