"""Sizes that peers keep to, in bytes unless they say otherwise."""

from __future__ import annotations

from typing import Final

LOG_BUNDLE_TARGET: Final = 50_000
LOG_BUNDLE_MAX: Final = 65_536
"""A node deletes a larger one unsent."""

APP_METADATA_MAX: Final = 32_768
ATTEST_QUOTE_MAX: Final = 63_488
"""A node leaves the event log out of a larger one."""

NONCE_MIN: Final = 12
NONCE_MAX: Final = 32
"""Outside these a node answers with an empty quote."""
