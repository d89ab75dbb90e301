"""What a node proves of itself, and whether that is believed."""
