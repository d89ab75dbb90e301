"""Devices of the machine that apps can have for themselves."""
