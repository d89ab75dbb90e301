"""The structure of each kind as data: read off its struct, checked against, published."""
