"""Each figure that is claimed, as a command that prints it beside its floor or its peer."""
