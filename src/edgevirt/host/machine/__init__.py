"""What this machine is, has, and how busy it is."""
