"""Volumes on disk, and snapshots of them."""
