"""What is kept of each node: its machine, its objects, what happened to it."""
