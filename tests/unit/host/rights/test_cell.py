"""What a program in a cell is given; that it has no more is tried with real QEMUs."""

from __future__ import annotations

import socket

import pytest

from edgevirt.host.rights.cell import CellError, open_tap


def test_an_interface_that_is_not_there_is_said_and_not_made() -> None:
    """A guest would find a card without a cable, and nobody would know why."""
    with pytest.raises(CellError, match="cannot open interface nbu9x9: there is none"):
        open_tap("nbu9x9")
    assert "nbu9x9" not in [name for _, name in socket.if_nameindex()]
