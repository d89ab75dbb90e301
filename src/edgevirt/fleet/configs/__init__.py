"""Each node's config: what it is made of, its version, its sealed form, and what is said of it."""
