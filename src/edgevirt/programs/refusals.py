"""What the machine or the fleet's directory refuses, said as each failure of the command is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgevirt.cli.session import fail


@contextlib.contextmanager
def told(hint: str = "") -> Iterator[None]:
    """What the machine or the directory refuses, as one sentence; a bug keeps its traceback."""
    from edgevirt.fleet.keys import KeysError
    from edgevirt.fleet.process import InUse

    try:
        yield
    except (KeysError, InUse) as error:
        fail(str(error), hint)
    except OSError as error:
        fail(_sentence(error), hint)
    except BaseExceptionGroup as group:
        refused, rest = group.split(OSError)
        if rest is not None or refused is None:
            raise
        fail(_sentence(_first(refused)), hint)


def _first(group: BaseExceptionGroup[BaseException]) -> OSError:
    inner = group.exceptions[0]
    if isinstance(inner, BaseExceptionGroup):
        return _first(inner)
    assert isinstance(inner, OSError)
    return inner


def _sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"cannot go on: {where}{error.strerror or error}"
