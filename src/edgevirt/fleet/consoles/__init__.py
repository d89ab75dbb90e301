"""Consoles of apps: who has which, for how long, and the pairing of both ends."""

from edgevirt.fleet.consoles.dispatcher import Dispatcher
from edgevirt.fleet.consoles.sessions import Busy, Session, Sessions

__all__ = ("Busy", "Dispatcher", "Session", "Sessions")
