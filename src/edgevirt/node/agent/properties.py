"""Config properties: their defaults and bounds, and what applies when a wanted value is wrong.

Names, types, defaults and ranges as in EVE's docs/CONFIG-PROPERTIES.md. An omitted property
has its default; an invalid value leaves the one before in force and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edgevirt.model.node import Property

_HIGH = 2**31


class Rule(msgspec.Struct, frozen=True):
    """`kind`: i (whole number), b (true or false), t (none, enabled or disabled),
    u (usb, nousb or nothing), s (text)."""

    kind: str
    default: str
    least: int = 0
    most: int = _HIGH


RULES: Mapping[str, Rule] = {
    "timer.config.interval": Rule("i", "60", 5, 86_400),
    "timer.cert.interval": Rule("i", "86400", 60),
    "timer.metric.interval": Rule("i", "60", 5, 3_600),
    "timer.metric.diskscan.interval": Rule("i", "300", 5),
    "timer.deviceinfo.interval": Rule("i", "600", 30),
    "timer.hardwarehealth.interval": Rule("i", "43200", 21_600),
    "timer.send.timeout": Rule("i", "120", 1),
    "timer.dial.timeout": Rule("i", "10", 1),
    "timer.reboot.no.network": Rule("i", "604800", 120),
    "timer.update.fallback.no.network": Rule("i", "300", 60),
    "timer.test.baseimage.update": Rule("i", "600", 30, 3_600),
    "timer.vault.ready.cutoff": Rule("i", "300", 60),
    "force.fallback.counter": Rule("i", "0"),
    "timer.gc.vdisk": Rule("i", "3600", 0),
    "timer.defer.content.delete": Rule("i", "0", 0, 86_400),
    "timer.download.retry": Rule("i", "600", 60),
    "timer.download.stalled": Rule("i", "600", 20),
    "timer.boot.retry": Rule("i", "600", 10),
    "timer.port.testduration": Rule("i", "30", 10, 3_600),
    "timer.port.testinterval": Rule("i", "300", 300, 3_600),
    "timer.port.testbetterinterval": Rule("i", "600", 0),
    "timer.port.timeout": Rule("i", "15", 1),
    "timer.appcontainer.stats.interval": Rule("i", "300", 1),
    "network.download.max.cost": Rule("i", "0", 0, 255),
    "network.fallback.any.eth": Rule("t", "disabled"),
    "network.local.legacy.mac.address": Rule("b", "false"),
    "blob.download.max.retries": Rule("i", "5", 1, 10),
    "app.enable.tcp.mss.clamping": Rule("b", "true"),
    "datastore.http.security.allowinsecureauth": Rule("b", "false"),
    "storage.dom0.disk.minusage.percent": Rule("i", "20", 20, 80),
    "storage.dom0.disk.maxusagebytes": Rule("i", "2147483648", 0, 2**62),
    "storage.apps.ignore.disk.check": Rule("b", "false"),
    "memory.apps.ignore.check": Rule("b", "false"),
    "memory.eve.limit.MiB": Rule("i", "0"),
    "maintenance.mode": Rule("t", "none"),
    "newlog.allow.fastupload": Rule("b", "false"),
    "newlog.gzipfiles.ondisk.maxmegabytes": Rule("i", "2048", 10),
    "log.dedup.window.size": Rule("i", "0"),
    "debug.default.loglevel": Rule("s", "info"),
    "debug.default.remote.loglevel": Rule("s", "info"),
    "debug.enable.usb": Rule("b", "false"),
    "debug.enable.vga": Rule("b", "false"),
    "debug.enable.console": Rule("b", "false"),
    "debug.enable.ssh": Rule("s", ""),
    "app.allow.vnc": Rule("b", "false"),
    "app.boot.order": Rule("u", ""),
}


def resolve(
    wanted: Iterable[tuple[str, str]], before: Mapping[str, Property]
) -> dict[str, Property]:
    """Every known property as it applies, and each unknown one with its error."""
    asked = dict(wanted)
    found = {}
    for name, rule in RULES.items():
        value = asked.pop(name, None)
        if value is None:
            found[name] = Property(value=rule.default)
            continue
        why = wrong(rule, value)
        if why:
            kept = before[name].value if name in before else rule.default
            found[name] = Property(value=kept, error=f"cannot set {name} to {value!r}: {why}")
        else:
            found[name] = Property(value=_canonical(rule, value))
    for name, value in asked.items():
        found[name] = Property(value=value, error=f"cannot use {name}: no such property here")
    return found


def wrong(rule: Rule, value: str) -> str:
    """Why a value can't be used; empty when it can."""
    if rule.kind == "i":
        try:
            number = int(value)
        except ValueError:
            return "it must be a whole number"
        if not rule.least <= number <= rule.most:
            return f"it must be between {rule.least} and {rule.most}"
    elif rule.kind == "b" and value.lower() not in {"true", "false"}:
        return "it must be true or false"
    elif rule.kind == "t" and value.lower() not in {"none", "enabled", "disabled"}:
        return "it must be none, enabled or disabled"
    elif rule.kind == "u" and value.lower() not in {"", "usb", "nousb"}:
        return "it must be usb, nousb or empty"
    return ""


def _canonical(rule: Rule, value: str) -> str:
    return str(int(value)) if rule.kind == "i" else value.lower() if rule.kind in "btu" else value


def number(properties: Mapping[str, Property], name: str) -> int:
    """A whole-number property as it applies; its default before there is a config."""
    found = properties.get(name)
    return int(found.value) if found else int(RULES[name].default)
