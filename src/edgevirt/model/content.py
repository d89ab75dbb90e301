"""Datastores, content trees, and the blobs that they are made of."""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.eci import ContentFormat as ContentFormat
from edgevirt.model.eci import Declared, Part, TreePart
from edgevirt.model.ids import ContentTreeId, DatastoreId, Digest


class CipherBlock(Noun, frozen=True, kw_only=True):
    """An `EncryptionBlock`, encrypted for this node (EVE's docs/OBJECT-LEVEL-ENCRYPTION.md)."""

    context_id: str
    initial_value: bytes
    data: bytes
    clear_sha256: bytes


class DatastoreType(enum.IntEnum):
    """`DsType` of the wire."""

    UNKNOWN = 0
    HTTP = 1
    HTTPS = 2
    S3 = 3
    SFTP = 4
    CONTAINER_REGISTRY = 5
    AZURE_BLOB = 6
    GOOGLE_STORAGE = 7


class Datastore(Noun, frozen=True, kw_only=True):
    """Where blobs come from. Key: `id`. Credentials: `cipher`, or in clear (deprecated)."""

    id: DatastoreId
    type: DatastoreType
    fqdn: str
    """`docker://HOST[:PORT]` or `https://HOST[:PORT]`."""
    dpath: str = ""
    api_key: str = ""
    password: str = ""
    region: str = ""
    ca_pem: tuple[str, ...] = ()
    cipher: CipherBlock | None = None
    rest: bytes = b""


class Credentials(Noun, frozen=True, kw_only=True):
    """A datastore's user and password, in clear. Key: datastore id. For the downloader alone."""

    user: str = ""
    password: str = ""
    why: str = ""
    """«cannot decrypt: …» when there are none to be had yet."""


class ContentTree(Noun, frozen=True, kw_only=True):
    """An image by reference. Key: `id`."""

    id: ContentTreeId
    datastores: tuple[DatastoreId, ...]
    """Tried in order."""
    url: str
    """Relative to the datastore's `dpath`; for a registry `repository[:tag][@digest]`."""
    format: ContentFormat
    sha256: str = ""
    """Lower-case hex of the blob (OCI: of its manifest or index); empty: resolve the tag."""
    max_size: int = 0
    """Bytes; 0: no bound of its own."""
    name: str = ""
    generation: int = 0
    signers: tuple[str, ...] = ()
    """Public keys (PEM), one of which must have signed it; none: no signature is asked for."""
    rest: bytes = b""

    @property
    def content(self) -> str:
        """Another one: other content under the same id."""
        return f"{self.url}@{self.sha256}"


class ImageConfig(Noun, frozen=True, kw_only=True):
    """What an OCI image says of how to run it."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """`NAME=value`."""
    workdir: str = "/"
    user: str = ""


class ContentTreeStatus(Noun, frozen=True, kw_only=True):
    """Key: content tree id. `LOADED` when every blob is verified and unpacked."""

    id: ContentTreeId
    content: str = ""
    """Of the ContentTree that this is said of: its config may be another one by now."""
    state: SwState
    since: float
    name: str = ""
    digest: Digest | None = None
    """Of the root blob, once it is known."""
    progress: int = 0
    """Percent of the bytes."""
    size: int = 0
    blobs: tuple[Digest, ...] = ()
    path: str = ""
    """Of the root disk, when it is one file."""
    format: ContentFormat = ContentFormat.UNKNOWN
    """What it turned out to be: of the root disk, or CONTAINER. UNKNOWN: a machine without one."""
    disk_size: int = 0
    """Bytes of the root disk, as far as that is known."""
    parts: tuple[TreePart, ...] = ()
    """Of an Edge Container Image that is a machine, in the manifest's order."""
    declared: Declared = Declared()
    layers: tuple[str, ...] = ()
    """Unpacked layer directories, lowest first, for format CONTAINER."""
    image: ImageConfig | None = None
    trouble: Trouble | None = None


# -- between volumes, downloader and verifier ---------------------------------------------------


class TagRequest(Noun, frozen=True, kw_only=True):
    """Ask a registry which digest a tag stands for. volumes → downloader.

    Key: content tree id; for what it is signed by, that with `.sig`.
    """

    datastores: tuple[DatastoreId, ...]
    url: str
    attempt: int = 0
    """Grows when the answer is to be asked for anew."""


class TagAnswer(Noun, frozen=True, kw_only=True):
    """Key: as TagRequest. downloader → volumes."""

    url: str
    attempt: int = 0
    digest: Digest | None = None
    trouble: Trouble | None = None


class BlobRequest(Noun, frozen=True, kw_only=True):
    """Fetch a blob. Key: digest. volumes → downloader.

    `url` as in ContentTree. For a registry the blob is `digest` in `url`'s repository, a manifest
    (`is_manifest`) or a layer; for others it is the file at `url`.
    """

    digest: Digest
    datastores: tuple[DatastoreId, ...]
    url: str
    is_manifest: bool = False
    size: int = 0
    """Expected bytes; 0: unknown."""
    max_size: int = 0
    """Bytes at which the download is refused; 0: no bound."""
    attempt: int = 0
    """Grows when the bytes turned out wrong: start over."""
    system: bool = False
    """Of the node's own operating system: kept outside the vault, which may be closed."""


class BlobDownload(Noun, frozen=True, kw_only=True):
    """Key: digest. downloader → volumes. The file is at `downloads/<hex>` when DOWNLOADED,
    the operating system's in a directory of its own."""

    digest: Digest
    state: SwState
    received: int = 0
    size: int = 0
    media_type: str = ""
    """As the datastore said; tells a manifest from a file."""
    attempt: int = 0
    trouble: Trouble | None = None


class BlobRole(enum.StrEnum):
    """What a verified blob is to be prepared for."""

    FILE = "file"
    PAYLOAD = "payload"
    """What was signed: a small document that names the digest of an image."""
    MANIFEST = "manifest"
    CONFIG = "config"
    MACHINE = "machine"
    """A config of which only the architecture counts."""
    LAYER = "layer"


class BlobClaim(Noun, frozen=True, kw_only=True):
    """Verify a downloaded blob, move it into the content store, prepare it. Key: digest.

    volumes → verifier. A claim that vanishes lets the verifier delete the blob and what it
    unpacked from it.
    """

    digest: Digest
    role: BlobRole
    attempt: int = 0
    media_type: str = ""
    diff_id: Digest | None = None
    """Of a layer: the digest of the uncompressed tar, checked while unpacking."""
    max_unpacked: int = 0
    """Bytes at which unpacking is refused; 0: a bound by the blob's size."""
    seek: tuple[str, ...] = ()
    """Of a layer: files to look for in it."""
    signatures: tuple[str, ...] = ()
    """Of a payload: Base64 of signatures over it."""
    keys: tuple[str, ...] = ()
    """Of a payload: public keys (PEM) to prove them with."""
    tags: tuple[tuple[ContentTreeId, str], ...] = ()
    """(content tree, url) that once were resolved to this blob: a tag isn't asked for twice."""
    unused_since: float | None = None
    """Wall clock since when no content tree and no volume needs it."""
    system: bool = False
    """As in BlobRequest."""


class BlobChild(Noun, frozen=True, kw_only=True):
    """A descriptor in a manifest or index."""

    digest: Digest
    role: BlobRole
    size: int
    media_type: str
    part: Part | None = None
    signature: str = ""
    """Base64 of a signature over the child."""


class BlobStatus(Noun, frozen=True, kw_only=True):
    """Key: digest. verifier → volumes, apps. LOADED when verified and prepared."""

    digest: Digest
    state: SwState
    attempt: int = 0
    size: int = 0
    path: str = ""
    """The verified file; for a LAYER the directory that it was unpacked to."""
    children: tuple[BlobChild, ...] = ()
    declared: Declared | None = None
    """Of a MANIFEST."""
    asked: tuple[str, ...] = ()
    """What this answers: the files that the claim sought, the keys that it gave."""
    found: tuple[str, ...] = ()
    """Of a LAYER: those of the files sought that are in it."""
    labels: tuple[tuple[str, str], ...] = ()
    """Of a CONFIG: those that tell where the parts of an ECI are among its files."""
    signed: Digest | None = None
    """Of a PAYLOAD: the image that it is about."""
    signers: tuple[str, ...] = ()
    """Of a PAYLOAD: those of the claim's keys that proved it."""
    image: ImageConfig | None = None
    diff_ids: tuple[Digest, ...] = ()
    unpacked: int = 0
    """Bytes that a LAYER takes besides the blob."""
    wrong: bool = False
    """The bytes aren't what the digest says: download again with the next attempt."""
    trouble: Trouble | None = None
