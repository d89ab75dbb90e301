"""Builds images: of apps, for a registry."""
