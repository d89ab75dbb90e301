"""The name of a config's content, by which a node says which config it has."""

from __future__ import annotations

import base64
import hashlib

from edgevirt.wire.messages import config


def config_hash(device_config: config.EdgeDevConfig) -> str:
    """43 characters, the same for equal configs and never empty: a node that has no config yet
    sends an empty hash, and would take an empty answer for «unchanged».

    It covers the config's timestamp: move that only together with something else. Stable within
    one version of protobuf; after an upgrade nodes may fetch once more.
    """
    digest = hashlib.sha256(device_config.SerializeToString(deterministic=True)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
