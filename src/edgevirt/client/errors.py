"""What can go wrong between a client and its fleet."""

from __future__ import annotations


class ClientError(Exception):
    """«cannot X: why», and a hint on what to do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Refused(ClientError):
    """The fleet answered with an error. `code` is HTTP's, `reason` Kubernetes' (`NotFound`…)."""

    def __init__(self, code: int, reason: str, why: str, hint: str = "") -> None:
        super().__init__(why, hint)
        self.code = code
        self.reason = reason
