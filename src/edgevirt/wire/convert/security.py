"""What a node tells of its security module and its vault."""

from __future__ import annotations

from typing import Final

from edgevirt.model.trust import ModuleState, SecurityModule, VaultState, VaultStatus
from edgevirt.wire.convert.reports import error_info
from edgevirt.wire.messages import info

VAULT: Final = "Application Data Store"
"""EVE's name for it."""

_STATES: Final = {
    VaultState.UNKNOWN: info.DATASEC_AT_REST_UNKNOWN,
    VaultState.OPENING: info.DATASEC_AT_REST_UNKNOWN,
    VaultState.DISABLED: info.DATASEC_AT_REST_DISABLED,
    VaultState.OPEN: info.DATASEC_AT_REST_ENABLED,
    VaultState.CLOSED: info.DATASEC_AT_REST_ERROR,
    VaultState.ERROR: info.DATASEC_AT_REST_ERROR,
}
_MODULE_STATES: Final = {
    ModuleState.ABSENT: info.NOTFOUND,
    ModuleState.WORKING: info.ENABLED,
    ModuleState.FAILED: info.DISABLED,
}


def fill_module(dinfo: info.ZInfoDevice, module: SecurityModule | None) -> None:
    """None: it has not been looked at yet."""
    if module is None:
        dinfo.HSMStatus = info.UNKNOWN
        return
    dinfo.HSMStatus = _MODULE_STATES[module.state]
    if module.trouble is not None:
        dinfo.HSMInfo = module.trouble.why
    elif module.state is ModuleState.ABSENT:
        dinfo.HSMInfo = "keys in software"
    else:
        names = (module.manufacturer, module.firmware, f"TPM {module.specification}")
        dinfo.HSMInfo = ", ".join(name for name in names if name)


def describe_module(message: info.TPM, module: SecurityModule) -> None:
    message.present = module.state is not ModuleState.ABSENT
    message.manufacturer = module.manufacturer
    message.firmware_version = module.firmware
    message.spec_version = module.specification


def fill_vault(message: info.DataSecAtRest, vault: VaultStatus | None) -> None:
    """In the list, and in the fields that came before it and say the same."""
    entry = message.vaultList.add(name=VAULT)
    if vault is None:
        return
    entry.status = message.status = _STATES[vault.state]
    entry.pcrStatus = info.PCR_ENABLED if vault.sealed else info.PCR_DISABLED
    if vault.trouble is not None:
        entry.vaultErr.CopyFrom(error_info(vault.trouble, info.ENTITY_VAULT, VAULT))
        message.info = vault.trouble.why
    elif vault.method:
        message.info = f"unlocked by {vault.method.value}"
