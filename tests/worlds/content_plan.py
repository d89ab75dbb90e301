"""The content planner without anything around it: its inputs, and what it yields of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import BaseOs
from edgevirt.model.content import (
    BlobChild,
    BlobClaim,
    BlobDownload,
    BlobRequest,
    BlobRole,
    BlobStatus,
    ContentFormat,
    ContentTree,
    ContentTreeStatus,
    ImageConfig,
)
from edgevirt.model.ids import ContentTreeId, DatastoreId, Digest
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BASE_OS,
    BLOB_CLAIM,
    BLOB_DOWNLOAD,
    BLOB_REQUEST,
    BLOB_STATUS,
    CONTENT_TREE,
    CONTENT_TREE_STATUS,
    PROPERTY,
    TAG_ANSWER,
    VOLUME_STATUS,
)
from edgevirt.model.node import AgentState, AgentStatus
from edgevirt.node.volumes.content_plan import ContentPlanner
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import Plan, plan_once
from edgevirt.wire import oci

INDEX, MANIFEST, CONFIG, BASE, TOP = (
    Digest("sha256:" + letter * 64) for letter in ("1", "2", "c", "a", "b")
)
IMAGE = ImageConfig(cmd=("/run",))
TREE = ContentTreeId("t1")
ONLINE = AgentStatus(state=AgentState.ONLINE, since=0, config_from="controller")


def tree(key: str = TREE, **fields: Any) -> ContentTree:
    given: dict[str, Any] = {
        "datastores": (DatastoreId("d1"), DatastoreId("d2")),
        "url": "apps/hello:1",
        "format": ContentFormat.CONTAINER,
        **fields,
    }
    return ContentTree(id=ContentTreeId(key), **given)


def child(digest: Digest, role: BlobRole, size: int = 100) -> BlobChild:
    return BlobChild(digest=digest, role=role, size=size, media_type="")


class World:
    """The planner's inputs; what it yields becomes its outputs of the time before."""

    def __init__(self, *trees: ContentTree) -> None:
        self.values: dict[Kind[Any], dict[str, Any]] = {
            CONTENT_TREE: {tree.id: tree for tree in trees},
            AGENT_STATUS: {"node": ONLINE},
            **{
                kind: {}
                for kind in (TAG_ANSWER, BLOB_DOWNLOAD, BLOB_STATUS, VOLUME_STATUS, PROPERTY)
            },
        }
        self.now = 1000.0
        self.vault_open = True

    def run_system(self, key: str) -> None:
        """That content tree is the node's own operating system."""
        wanted = BaseOs(content_tree=ContentTreeId(key), version="os-2")
        self.values[BASE_OS] = {"node": wanted}

    def plan(self) -> Plan:
        planner = ContentPlanner(vault_open=self.vault_open)
        values = {kind: self.values[kind] for kind in self.values if kind in planner.reads}
        values |= {kind: self.values.get(kind, {}) for kind in planner.owns}
        plan = plan_once(planner, values, now=self.now)
        for kind in ContentPlanner.owns:
            self.values[kind] = dict(plan.all(kind))
        return plan

    def downloaded(self, digest: Digest, attempt: int = 0, **fields: Any) -> None:
        self.values[BLOB_DOWNLOAD][digest] = BlobDownload(
            digest=digest,
            state=SwState.DOWNLOADED,
            attempt=attempt,
            **{"received": 100, "size": 100, **fields},
        )

    def receiving(self, digest: Digest, received: int, trouble: Trouble | None = None) -> None:
        self.values[BLOB_DOWNLOAD][digest] = BlobDownload(
            digest=digest,
            state=SwState.DOWNLOADING,
            received=received,
            size=100,
            trouble=trouble,
        )

    def status(self, digest: Digest, state: SwState = SwState.LOADED, **fields: Any) -> None:
        self.values[BLOB_STATUS][digest] = BlobStatus(
            digest=digest,
            state=state,
            **{"size": 100, "path": f"/p/{oci.hex_of(digest)}", **fields},
        )

    def load_image(self) -> None:
        """Everything of an image by index is there."""
        self.status(INDEX, children=(child(MANIFEST, BlobRole.MANIFEST),))
        self.load_manifest()

    def load_manifest(self) -> None:
        layers = (child(BASE, BlobRole.LAYER, 300), child(TOP, BlobRole.LAYER, 500))
        self.status(MANIFEST, children=(child(CONFIG, BlobRole.CONFIG), *layers))
        self.status(CONFIG, image=IMAGE, diff_ids=(Digest("sha256:d1"), Digest("sha256:d2")))
        self.status(BASE)
        self.status(TOP)

    def tree(self, key: str = TREE) -> ContentTreeStatus:
        status: ContentTreeStatus = self.values[CONTENT_TREE_STATUS][key]
        return status

    def requests(self) -> Mapping[str, BlobRequest]:
        return self.values[BLOB_REQUEST]

    def claims(self) -> Mapping[str, BlobClaim]:
        return self.values[BLOB_CLAIM]


def by_digest(**fields: Any) -> ContentTree:
    return tree(sha256=oci.hex_of(MANIFEST).upper(), **fields)
