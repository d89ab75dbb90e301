"""The node's operating system, wanted: both ways."""

from __future__ import annotations

from edgevirt.model.baseos import BaseOs
from edgevirt.model.ids import ContentTreeId
from edgevirt.wire.convert.rest import copy_without, forget, pack, reference, unpack
from edgevirt.wire.messages import config


def base_os(message: config.BaseOS) -> BaseOs:
    rest = copy_without(message, "content_tree_uuid", "base_os_version", "activate")
    forget(rest, ("retry_update",), ("counter",))
    if rest.HasField("retry_update") and not rest.retry_update.ByteSize():
        rest.ClearField("retry_update")
    return BaseOs(
        content_tree=ContentTreeId(reference(message.content_tree_uuid)),
        version=message.base_os_version,
        activate=message.activate,
        retry_counter=message.retry_update.counter if message.HasField("retry_update") else None,
        rest=pack(rest),
    )


def base_os_message(noun: BaseOs) -> config.BaseOS:
    message = unpack(config.BaseOS, noun.rest)
    message.content_tree_uuid = noun.content_tree
    message.base_os_version = noun.version
    message.activate = noun.activate
    if noun.retry_counter is None:
        message.ClearField("retry_update")
    else:
        message.retry_update.counter = noun.retry_counter
        message.retry_update.SetInParent()
    return message
