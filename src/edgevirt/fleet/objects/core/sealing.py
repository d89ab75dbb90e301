"""Secrets at rest: sealed with a key of the fleet's data directory before they reach the store."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgevirt.fleet.objects.core.secret import Secret

KEY_FILE = "secrets.key"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which `kubectl apply` keeps the manifest, its values included."""
_MARK = "sealed:1:"


class Sealer:
    """AES-256-GCM; a value is bound to its secret's UID and its own name."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: Secret) -> Secret:
        """With every value of `data`, and kubectl's copy of the manifest, sealed. `metadata.uid`
        must be set."""
        return self._each(secret, self._seal)

    def open(self, secret: Secret) -> Secret:
        """With every value of `data` in base64 again. Raises ValueError when a value was changed,
        or sealed with another key."""
        return self._each(secret, self._open)

    def _each(self, secret: Secret, change: Callable[[str, bytes], str]) -> Secret:
        meta = secret.metadata
        data = {k: change(v, f"{meta.uid}/{k}".encode()) for k, v in secret.data.items()}
        if LAST_APPLIED in meta.annotations:
            bound = f"{meta.uid}//{LAST_APPLIED}".encode()
            manifest = change(meta.annotations[LAST_APPLIED], bound)
            annotations = {**meta.annotations, LAST_APPLIED: manifest}
            meta = msgspec.structs.replace(meta, annotations=annotations)
        return msgspec.structs.replace(secret, metadata=meta, data=data)

    def _seal(self, value: str, bound: bytes) -> str:
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, value.encode(), bound)
        return _MARK + base64.b64encode(nonce + sealed).decode()

    def _open(self, value: str, bound: bytes) -> str:
        if not value.startswith(_MARK):
            raise ValueError("cannot open a secret: it was never sealed")
        raw = base64.b64decode(value.removeprefix(_MARK))
        try:
            return self._cipher.decrypt(raw[:12], raw[12:], bound).decode()
        except InvalidTag:
            raise ValueError("cannot open a secret: it was sealed with another key") from None


def load_sealer(directory: Path) -> Sealer:
    """With the key in `directory`, which is made (mode 0600) when it is not there yet."""
    path = directory / KEY_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(AESGCM.generate_key(256))
            file.flush()
            os.fsync(file.fileno())
    return Sealer(path.read_bytes())
