"""What is given out of a build: disks, and what is to be known of them."""
