"""Remote access and an app's screen come from the wire, and go back as they came."""

from __future__ import annotations

from edgevirt.model.access import AccessConfig, Vnc
from edgevirt.wire.convert import access, apps
from edgevirt.wire.messages import config


def test_access_keeps_the_policies_that_it_does_not_know() -> None:
    message = config.EdgeViewConfig(token="a.b.c", disp_cert_pem=[b"pem"], generation_id=7)
    message.dev_policy.allow_dev = True
    noun = access.access(message)
    assert noun == AccessConfig(
        token="a.b.c", dispatcher_roots=(b"pem",), generation=7, rest=noun.rest
    )
    assert access.access_message(noun) == message


def app(**fields: object) -> config.AppInstanceConfig:
    message = config.AppInstanceConfig()
    message.uuidandversion.uuid = "11111111-2222-3333-4444-555555555555"
    message.fixedresources.CopyFrom(config.VmConfig(memory=1024, vcpus=1, **fields))  # type: ignore[arg-type]
    return message


def test_a_screen_for_the_node_s_own_door() -> None:
    message = app(enable_vnc=True, vncDisplay=3, vncPasswd="secret")
    noun = apps.app(message)
    assert noun.resources.vnc == Vnc(display=3, password="secret")
    assert apps.app_message(noun) == message


def test_a_display_that_is_not_enabled_is_none_and_is_not_lost() -> None:
    message = app(vncDisplay=3)
    noun = apps.app(message)
    assert noun.resources.vnc is None
    assert apps.app_message(noun) == message
