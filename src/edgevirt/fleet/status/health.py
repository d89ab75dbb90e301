"""From device info to the conditions of a node's ports and of its vault. Pure."""

from __future__ import annotations

from typing import Final

from edgevirt.fleet.objects.base.object import Condition
from edgevirt.wire.messages import info

SOURCES: Final = {
    "zedagent": "fleet",
    "bootstrap": "bootstrap",
    "override": "override",
    "usb": "override",
    "manual": "manual",
    "lastresort": "last resort",
    "lps": "local profile server",
}
"""Where port configs come from, by EVE's keys."""
_MOST_WORDS: Final = 500


def source_of_ports(adapter: info.SystemAdapterInfo) -> str:
    """Of the port config in use; empty: the node does not tell."""
    if adapter.currentIndex >= len(adapter.status):
        return ""
    return _source(adapter.status[adapter.currentIndex])


def ports_condition(adapter: info.SystemAdapterInfo) -> Condition | None:
    """`PortsAsWanted`; None: the node tells of no port config."""
    if not adapter.status:
        return None
    wanted = adapter.status[0]
    why = wanted.lastError or "it did not work"
    if adapter.currentIndex >= len(adapter.status):
        return _ports(False, "NoneWorks", f"no port config works: {why}")
    if adapter.currentIndex:
        used = adapter.status[adapter.currentIndex]
        words = f"fell back to the ports of {_source(used)} from those of {_source(wanted)}: {why}"
        return _ports(False, "FellBack", words)
    failing = wanted.lastFailed.seconds > wanted.lastSucceeded.seconds
    if wanted.lastError and failing:
        return _ports(False, "Failing", f"the ports of {_source(wanted)} do not work: {why}")
    return _ports(True, "InUse", f"the ports of {_source(wanted)} are in use")


def vault_condition(secured: info.DataSecAtRest) -> Condition | None:
    """`VaultOpen`, of the worst of its vaults; None: the node tells of none."""
    if not secured.vaultList:
        return None
    conditions = [_of_vault(vault) for vault in secured.vaultList]
    order = {"False": 0, "Unknown": 1, "True": 2}
    return min(conditions, key=lambda c: (order[c.status], c.reason != "NotEncrypted"))


def _of_vault(vault: info.VaultInfo) -> Condition:
    why = vault.vaultErr.description[:_MOST_WORDS]
    named = f"{vault.name}: " if vault.name else ""
    if vault.status == info.DATASEC_AT_REST_ENABLED and not why:
        sealed = vault.pcrStatus == info.PCR_ENABLED
        words = "encrypted, its key sealed to what booted" if sealed else "encrypted"
        return Condition(type="VaultOpen", status="True", reason="Encrypted", message=words)
    if vault.status == info.DATASEC_AT_REST_DISABLED and not why:
        words = "not encrypted: the machine has no security module that could keep its key"
        return Condition(type="VaultOpen", status="True", reason="NotEncrypted", message=words)
    if vault.status == info.DATASEC_AT_REST_UNKNOWN and not why:
        return Condition(type="VaultOpen", status="Unknown", reason="NotYet", message=named + "?")
    words = f"{named}{why or 'it does not open'}"
    return Condition(type="VaultOpen", status="False", reason="Closed", message=words)


def _source(status: info.DevicePortStatus) -> str:
    return SOURCES.get(status.key, status.key[:64] or "an unknown source")


def _ports(good: bool, reason: str, message: str) -> Condition:
    return Condition(
        type="PortsAsWanted",
        status="True" if good else "False",
        reason=reason,
        message=message[:_MOST_WORDS],
    )
