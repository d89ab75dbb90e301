"""What objects of all kinds are made of: metadata, names, amounts, columns, what may be wrong."""
