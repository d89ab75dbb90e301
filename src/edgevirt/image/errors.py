"""What a build may end with."""

from __future__ import annotations


class ImageError(Exception):
    """«cannot X: why», and what to do about it. Nothing half-made stays behind."""
