"""Datastores: one Protocol, an adapter for each kind, and who gets which."""

from edgevirt.host.fetch.open import open_source
from edgevirt.host.fetch.source import (
    Access,
    BeyondEnd,
    CannotFetch,
    NotThere,
    Source,
    Timeouts,
    Transfer,
    Wanted,
)

__all__ = [
    "Access",
    "BeyondEnd",
    "CannotFetch",
    "NotThere",
    "Source",
    "Timeouts",
    "Transfer",
    "Wanted",
    "open_source",
]
