"""Apps as virtual machines of QEMU."""
