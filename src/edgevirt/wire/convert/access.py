"""Remote access, granted: both ways."""

from __future__ import annotations

from edgevirt.model.access import AccessConfig
from edgevirt.wire.convert.rest import copy_without, pack, unpack
from edgevirt.wire.messages import config


def access(message: config.EdgeViewConfig) -> AccessConfig:
    return AccessConfig(
        token=message.token,
        dispatcher_roots=tuple(message.disp_cert_pem),
        generation=message.generation_id,
        rest=pack(copy_without(message, "token", "disp_cert_pem", "generation_id")),
    )


def access_message(noun: AccessConfig) -> config.EdgeViewConfig:
    message = unpack(config.EdgeViewConfig, noun.rest)
    message.token = noun.token
    message.disp_cert_pem.extend(noun.dispatcher_roots)
    message.generation_id = noun.generation
    return message
