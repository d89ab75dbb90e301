"""agent: the line to the controller. The only entrance for a config, the only way out for news."""

from edgevirt.node.agent.service import SERVICE

__all__ = ["SERVICE"]
