"""What comes from Debian and PyPI: locked by hash, fetched, unpacked."""
