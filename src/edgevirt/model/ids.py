"""Identities. Distinct types, so that an app's id never lands where a volume's is meant."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", str)
"""UUID text, lower case, with dashes; so are the other ids unless they say otherwise."""
AppId = NewType("AppId", str)
VolumeId = NewType("VolumeId", str)
SnapshotId = NewType("SnapshotId", str)
ContentTreeId = NewType("ContentTreeId", str)
DatastoreId = NewType("DatastoreId", str)
NetworkInstanceId = NewType("NetworkInstanceId", str)
Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""
GptGuid = NewType("GptGuid", str)
"""As the kernel prints one: lower case, with dashes."""
