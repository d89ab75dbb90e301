"""Nouns to bytes and back: the EVE API's messages, envelopes, certificates and cipher blocks.

Pure: nothing here opens a socket, reads a clock or keeps state. Each module is imported by its own
name, so that a process pays only for what it uses.
"""
