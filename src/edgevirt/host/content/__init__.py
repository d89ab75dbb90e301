"""Content that is fetched, proven and unpacked."""
