"""The nouns of one node: frozen specs and statuses."""
