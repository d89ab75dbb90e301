"""Libraries without what they import and we never use: each such module costs every start its time
and every process its memory."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator


class _Absent(types.ModuleType):
    """Has every name: a class that takes anything and does nothing, with every name itself."""

    def __getattr__(self, name: str) -> type:
        return _nothing(name)


class _Nothing(type):
    def __getattr__(cls, name: str) -> type:
        return _nothing(name)


def _nothing(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Nothing(name, (), {"__init__": lambda self, *values, **named: None})


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """What is imported within finds nothing behind these names. Whoever imports one of them later
    gets the real one; one that was loaded before stays.
    """
    absent = {name: _Absent(name) for name in modules if name not in sys.modules}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
