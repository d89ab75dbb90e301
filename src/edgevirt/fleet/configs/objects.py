"""What one node's config is made of, as the store has it, with its Secrets opened."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet import render
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.devices import DEVICE_TRUST, device_key
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import ApiObject, LocalRef
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.core.secret import Secret, value_of
from edgevirt.fleet.render import Cipher, Credentials, Objects
from edgevirt.model.ids import NodeId
from edgevirt.runtime import Kind, Store
from edgevirt.wire import certificates, cipher
from edgevirt.wire.messages import certs

_log: Final = logging.getLogger(__name__)

KINDS: Final[dict[str, Kind[Any]]] = {
    "EdgeNode": kinds.EDGE_NODE,
    "AppInstance": kinds.APP_INSTANCE,
    "App": kinds.APP,
    "Image": kinds.IMAGE,
    "OSImage": kinds.OS_IMAGE,
    "HardwareModel": kinds.HARDWARE_MODEL,
    "NetworkInstance": kinds.NETWORK_INSTANCE,
    "Datastore": kinds.DATASTORE,
    "Secret": kinds.SECRET,
    "Volume": kinds.VOLUME,
}
"""Those that a config is made of."""


class ConfigObjects:
    """One per process. `dependencies` tells which objects concern a node."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        dependencies: Dependencies,
        ring: KeyRing,
        sealer: Sealer,
    ) -> None:
        self._store = store
        self._registry = registry
        self._dependencies = dependencies
        self._ring = ring
        self._sealer = sealer

    async def of_node(self, row: int) -> Objects:
        """`row`: in the registry. Raises LookupError when its EdgeNode is gone."""
        name = self._registry.name(row)
        by_kind: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        items = self._dependencies.items_of(name)
        found = await asyncio.gather(*(self._store.get(KINDS[kind], key) for kind, key in items))
        for (kind, _), resource in zip(items, found, strict=True):
            if resource is not None:
                value: ApiObject = resource.value
                by_kind[kind][value.metadata.name] = value
        nodes = list(by_kind["EdgeNode"].values())
        if not nodes:
            raise LookupError(f"EdgeNode {name} is gone")
        return Objects(
            node_id=NodeId(device_key(self._registry.node(row))),
            node=nodes[0],
            instances=tuple(by_kind["AppInstance"].values()),
            apps=by_kind["App"],
            images=by_kind["Image"],
            os_images=by_kind["OSImage"],
            hardware_models=by_kind["HardwareModel"],
            networks=by_kind["NetworkInstance"],
            volumes=by_kind["Volume"],
            datastores=by_kind["Datastore"],
            credentials=self._credentials(by_kind["Datastore"], by_kind["Secret"]),
            screen_passwords=self._screen_passwords(by_kind["App"], by_kind["Secret"]),
            cipher=await self._cipher(row) if by_kind["Secret"] else None,
            controller_cert_hash=self._ring.keys.certs_hash,
        )

    def _credentials(
        self, datastores: dict[str, Any], secrets: dict[str, Any]
    ) -> dict[str, Credentials]:
        found = {}
        for name, store in datastores.items():
            opened = self._open(store.spec.credentials_secret_ref, secrets, f"Datastore {name}")
            if opened is not None:
                found[name] = Credentials(
                    value_of(opened, "username"), value_of(opened, "password")
                )
        return found

    def _screen_passwords(self, apps: dict[str, Any], secrets: dict[str, Any]) -> dict[str, str]:
        found = {}
        for name, app in apps.items():
            vnc = app.spec.vnc
            opened = self._open(vnc.password_secret_ref, secrets, f"App {name}") if vnc else None
            if opened is not None:
                found[name] = value_of(opened, "password")
        return found

    def _open(self, ref: LocalRef | None, secrets: dict[str, Any], user: str) -> Secret | None:
        """None: there is no such Secret, or it cannot be read."""
        if ref is None or ref.name not in secrets:
            return None
        try:
            return self._sealer.open(secrets[ref.name])
        except ValueError as error:
            _log.error("Secret %s of %s: %s", ref.name, user, error)
            return None

    async def _cipher(self, row: int) -> Cipher | None:
        """Between our newest encryption key and the node's; None while it has sent none."""
        key = device_key(self._registry.node(row))
        trust = await self._store.get(DEVICE_TRUST, key)
        held = trust.value.certs if trust is not None else ()
        for cert in held:
            if cert.type == certs.CERT_TYPE_DEVICE_ECDH_EXCHANGE:
                peer = certificates.public_key_of(certificates.load_pem(cert.pem))
                assert isinstance(peer, ec.EllipticCurvePublicKey)  # checked when it came
                own = self._ring.keys.encryptions[0]
                return render.make_cipher(
                    NodeId(key),
                    certificates.short_pem_hash(own.pem),
                    cert.cert_hash,
                    cipher.shared_key(own.key, peer),
                )
        return None
