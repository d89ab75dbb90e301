"""An App that is given less than before: what becomes of what runs already, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from edgevirt.fleet.objects.app.volume import AppVolume
from edgevirt.model.quantity import Quantity, parse

_AS_IT_IS = (
    "one that is there keeps its size, and its node says so; after a purge, which makes its data "
    "new, it has this one"
)


def warn_lowered(field: str, now: Quantity, before: Quantity, *, restarts: bool) -> Iterator[str]:
    """`restarts`: it applies at a restart, which the change brings; else at a purge."""
    if not _is_less(now, before):
        return
    then = "the app's instances restart with it at once" if restarts else _AS_IT_IS
    yield f"{field}: {now} instead of {before}: {then}"


def warn_of_volumes(now: tuple[AppVolume, ...], before: tuple[AppVolume, ...]) -> Iterator[str]:
    known = {volume.name: volume for volume in before}
    for index, volume in enumerate(now):
        old = known.get(volume.name)
        if old is not None and not volume.volume and not old.volume:
            field = f"spec.volumes[{index}].size"
            yield from warn_lowered(field, volume.size, old.size, restarts=False)


def _is_less(now: Quantity, before: Quantity) -> bool:
    """0: no bound, or what is usual."""
    with suppress(ValueError):  # which is told elsewhere
        return 0 < parse(now) < parse(before)
    return False
