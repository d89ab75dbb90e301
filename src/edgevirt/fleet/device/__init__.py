"""The nodes' API: its table of routes, and what answers. It knows no transport."""
