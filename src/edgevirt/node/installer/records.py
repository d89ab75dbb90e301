"""What is written down of a machine on the INVENTORY partition, in a folder of its own. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from edgevirt.model.installation import Record

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 80
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


def files_of(
    record: Record, config: Mapping[str, bytes], endorsement: bytes = b""
) -> dict[str, bytes]:
    """By path. `config`: the files of CONFIG; nothing secret of it is taken. `endorsement`: the
    certificate that the TPM has of its maker, DER.
    """
    folder = folder_of(record)
    found = {
        f"{folder}/record.json": msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n",
        f"{folder}/soft_serial": f"{record.soft_serial}\n".encode(),
        f"{folder}/serial": f"{record.serial}\n".encode(),
    }
    if certificate := config.get("onboard.cert.pem"):
        found[f"{folder}/onboard.cert.pem"] = certificate
    if endorsement:
        found[f"{folder}/endorsement.cert.der"] = endorsement
    return found


def told_lines(record: Record) -> list[str]:
    """What a node is known by, for somebody who reads it off the screen."""
    lines = [f"serial {record.serial or 'unknown'}, soft serial {record.soft_serial}"]
    if record.onboarding_certificate:
        lines.append(f"onboarding certificate {record.onboarding_certificate}")
    if record.device_certificate:
        lines.append(f"device certificate {record.device_certificate}, as its TPM remembers")
    lines.extend(f"network port {nic.name}: {nic.mac}" for nic in record.nics)
    return lines


def folder_of(record: Record) -> str:
    """By the serial that nobody else has."""
    name = _UNSAFE.sub("_", record.soft_serial or record.serial).strip("._")[:_LONGEST]
    return name or "unknown"


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate, in hex; empty where there is none."""
    found = _PEM.search(pem)
    if found is None:
        return ""
    try:
        return hashlib.sha256(base64.b64decode(found[1])).hexdigest()
    except ValueError:
        return ""
