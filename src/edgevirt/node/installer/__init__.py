"""Installs a node onto a disk of the machine that an installer was booted on."""
