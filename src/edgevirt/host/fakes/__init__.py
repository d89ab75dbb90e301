"""Verified fakes: each passes the conformance suite of what it stands for."""
