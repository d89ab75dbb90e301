"""What the kernel's hand-over begins with, and how a machine ends."""
