"""The first process after init: forks the services, watches them, starts them again."""

from edgevirt.node.supervisor.keeping import Limits
from edgevirt.node.supervisor.status import SERVICE

__all__ = ["SERVICE", "Limits"]
