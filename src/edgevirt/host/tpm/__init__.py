"""TPM 2.0: keys that never leave the machine, and what booted, signed by hardware.

Nothing is imported here: process 1 measures with a part of it, before there is time for the rest.
"""
