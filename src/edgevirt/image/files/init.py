#!/usr/bin/python3 -I
"""Process 1 of the operating system."""

from edgevirt.node.boot import main

main()
