"""The software bill of materials of an image: SPDX 2.3, as JSON. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

from edgevirt.image.packages.lock import Package
from edgevirt.image.recipe import GRUB, HYPERVISOR, KERNEL, ROOT


def describe(
    version: str, epoch: int, packages: Iterable[Package], libraries: Mapping[str, str]
) -> dict[str, object]:
    """`libraries`: Python ones, by name their version. The same inputs give the same text."""
    shipped = [p for p in packages if p.group in (ROOT, KERNEL, GRUB, HYPERVISOR)]
    rows = [_package("edgevirt", version, "", "Apache-2.0")]
    for package in shipped:
        purl = f"pkg:deb/debian/{package.name}@{package.version}?arch={package.arch}"
        rows.append(_package(package.name, package.version, purl, "NOASSERTION", package.sha256))
    for name, number in sorted(libraries.items()):
        rows.append(_package(f"python-{name}", number, f"pkg:pypi/{name}@{number}", "NOASSERTION"))
    created = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": version,
        "documentNamespace": f"https://edgevirt.io/spdx/{version}",
        "creationInfo": {
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: edgevirt-image"],
        },
        "packages": rows,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": rows[0]["SPDXID"],
            },
            *(
                {
                    "spdxElementId": rows[0]["SPDXID"],
                    "relationshipType": "CONTAINS",
                    "relatedSpdxElement": row["SPDXID"],
                }
                for row in rows[1:]
            ),
        ],
    }


def _package(
    name: str, version: str, purl: str, licence: str, sha256: str = ""
) -> dict[str, object]:
    identity = "".join(c if c.isalnum() or c in ".-" else "-" for c in name)
    row: dict[str, object] = {
        "SPDXID": f"SPDXRef-{identity}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    }
    if sha256:
        row["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    if purl:
        row["externalRefs"] = [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ]
    return row
