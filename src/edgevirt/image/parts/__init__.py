"""What becomes part of the root image, and the root image that is made of it."""
