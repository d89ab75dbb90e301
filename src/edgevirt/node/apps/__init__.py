"""apps: an app's life: what it waits for, what runs of it, its restarts and purges."""

from edgevirt.node.apps.service import SERVICE

__all__ = ["SERVICE"]
