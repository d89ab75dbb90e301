"""What people read of what nodes told, in the operators' API."""
