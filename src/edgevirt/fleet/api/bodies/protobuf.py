"""Bodies in Kubernetes' protobuf encoding, which kubectl's typed commands send: those kinds only.

The numbers are those of Kubernetes' published `generated.proto` files; fields that are not listed
are skipped, as protobuf does with unknown ones.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

from edgevirt.fleet.api.errors import bad_request, unsupported_media

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
}

_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "bytes"), 3: ("contentEncoding", "string")},
    "TypeMeta": {1: ("apiVersion", "string"), 2: ("kind", "string")},
    "ObjectMeta": {
        1: ("name", "string"),
        2: ("generateName", "string"),
        3: ("namespace", "string"),
        5: ("uid", "string"),
        6: ("resourceVersion", "string"),
        11: ("labels", "map string"),
        12: ("annotations", "map string"),
        14: ("finalizers", "repeated string"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta")},
    "Secret": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "map bytes"),
        3: ("type", "string"),
        4: ("stringData", "map string"),
        5: ("immutable", "bool"),
    },
    "DeleteOptions": {2: ("preconditions", "Preconditions"), 5: ("dryRun", "repeated string")},
    "Preconditions": {1: ("uid", "string"), 2: ("resourceVersion", "string")},
    "SelfSubjectReview": {1: ("metadata", "ObjectMeta")},
    "SelfSubjectAccessReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "AccessSpec")},
    "AccessSpec": {
        1: ("resourceAttributes", "ResourceAttributes"),
        2: ("nonResourceAttributes", "NonResourceAttributes"),
    },
    "ResourceAttributes": {
        1: ("namespace", "string"),
        2: ("verb", "string"),
        3: ("group", "string"),
        4: ("version", "string"),
        5: ("resource", "string"),
        6: ("subresource", "string"),
        7: ("name", "string"),
    },
    "NonResourceAttributes": {1: ("path", "string"), 2: ("verb", "string")},
    "SelfSubjectRulesReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "RulesSpec")},
    "RulesSpec": {1: ("namespace", "string")},
}
_KINDS = frozenset(
    {
        "Namespace",
        "Secret",
        "DeleteOptions",
        "SelfSubjectReview",
        "SelfSubjectAccessReview",
        "SelfSubjectRulesReview",
    }
)
_PACKAGE = "edgevirt.kubernetes"


def _describe() -> dict[str, type[message.Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="edgevirt/kubernetes.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for number, (field, type) in fields.items():
            _describe_field(described, number, field, type)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _describe_field(
    owner: descriptor_pb2.DescriptorProto, number: int, name: str, type: str
) -> None:
    form, _, base = type.rpartition(" ")
    field = owner.field.add(name=name, json_name=name, number=number)
    field.label = _Field.LABEL_REPEATED if form else _Field.LABEL_OPTIONAL
    if form == "map":
        entry = owner.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        for at, (part, its) in enumerate((("key", "string"), ("value", base)), start=1):
            entry.field.add(
                name=part, number=at, type=_TYPES[its], label=_Field.LABEL_OPTIONAL, json_name=part
            )
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{owner.name}.{entry.name}"
    elif base in _TYPES:
        field.type = _TYPES[base]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{base}"


_CLASSES = _describe()


def parse(body: bytes) -> dict[str, Any]:
    """As the JSON form of the same object. Raises ApiError."""
    if not body.startswith(_MAGIC):
        raise bad_request("cannot read the body as protobuf: it does not begin as Kubernetes' do")
    try:
        envelope = _dict("Unknown", body[len(_MAGIC) :])
        kind = envelope.get("typeMeta", {}).get("kind", "")
        if kind not in _KINDS or envelope.get("contentEncoding"):
            raise unsupported_media(f"{MEDIA} of kind {kind}", ("application/json",))
        raw: Any = _CLASSES["Unknown"].FromString(body[len(_MAGIC) :])
        return {**envelope["typeMeta"], **_dict(kind, raw.raw)}
    except message.DecodeError as error:
        raise bad_request(f"cannot read the body as protobuf: {error}") from None


def _dict(name: str, data: bytes) -> dict[str, Any]:
    parsed = _CLASSES[name].FromString(data)
    result: dict[str, Any] = json_format.MessageToDict(parsed)
    return result
