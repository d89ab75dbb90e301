"""Edge Container Images on a developer's machine: built, moved, signed, looked at, tried."""
