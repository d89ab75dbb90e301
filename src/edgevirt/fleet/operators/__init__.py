"""People of the operators' API: how they come in, and what they may do."""
