"""What is known of one content tree now: the blobs that it needs, and what for."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgevirt.model.base import SwState
from edgevirt.model.content import BlobRole, BlobStatus, ContentTree, ImageConfig
from edgevirt.model.eci import Declared, TreePart
from edgevirt.model.ids import ContentTreeId, Digest
from edgevirt.model.kinds import BLOB_STATUS
from edgevirt.runtime import Inputs
from edgevirt.wire import oci


class Want(msgspec.Struct, frozen=True):
    """A blob that a tree needs, and what for."""

    digest: Digest
    role: BlobRole
    size: int = 0
    """0: unknown."""
    max_size: int = 0
    media_type: str = ""
    diff_id: Digest | None = None
    claimable: bool = True
    """False: how to prepare it isn't known yet; it is fetched meanwhile."""
    seek: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    tag: str = ""
    """URL whose tag stands for this blob: remembered with it."""


class Walk(msgspec.Struct):
    """What is known of a tree now."""

    tree: ContentTree
    digest: Digest | None = None
    """Of the root."""
    wants: list[Want] = msgspec.field(default_factory=list)
    layers: list[Digest] = msgspec.field(default_factory=list)
    """Lowest first; a layer may come twice."""
    file: Digest | None = None
    """Of a tree that is one file."""
    parts: list[TreePart] = msgspec.field(default_factory=list)
    """Of a tree that is a machine; their paths aren't known here."""
    declared: Declared = msgspec.field(default_factory=Declared)
    image: ImageConfig | None = None
    whole: bool = False
    """Every blob is known."""
    asks: str = ""
    """URL of the tag of the tree's signatures, while they must be looked up."""
    unsigned: str = ""
    """Why the tree is not proven to be signed, while that may change."""
    trouble: str | None = None
    """Why the tree can't be had, whatever is tried."""

    @property
    def by_tag(self) -> bool:
        """The digest was asked for, not given."""
        return not self.tree.sha256 and not oci.is_digest(self.tree.url.rpartition("@")[2])

    def want(self, want: Want) -> None:
        """A blob counts once, whatever it is there for twice."""
        for other in self.wants:
            if other.digest == want.digest:
                if other.role != want.role:
                    self.fail(f"it takes {want.digest} for two things")
                return
        self.wants.append(want)

    def fail(self, why: str) -> None:
        self.trouble = f"cannot load {self.tree.url}: {why}"


def loaded(digest: Digest, inputs: Inputs) -> BlobStatus | None:
    status = inputs.get(BLOB_STATUS, digest)
    return status if status is not None and status.state == SwState.LOADED else None


Resolved = Mapping[tuple[ContentTreeId, str], Digest]
"""Tags (of a content tree, at a url) whose digest is remembered."""
