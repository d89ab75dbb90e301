"""Keeps one domain: its console on standard output, and its end as an exit code.

    python -S -m edgevirt.host.xen.keeper create --bundle DIRECTORY --pid-file FILE ID

is for conmon to call, as an OCI runtime. The bundle's `keeper.json` names the domain. The domain is
made, paused; the keeper is a process that lives as long. It ends with 0 when the domain switched
itself off, and otherwise with one of the codes below. A domain that restarts is made anew.

Only the standard library is used: the start of a guest waits for this.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from edgevirt.host.rights.cell import open_tap
from edgevirt.host.xen.console import Console, listen
from edgevirt.host.xen.listing import Listed, Reason, parse_list
from edgevirt.host.xen.store import DOMAIN_ENDED, StoreError, XenStore

CRASHED: Final = 134
GONE: Final = 137
"""It was destroyed, not by itself."""
_FAILED: Final = 126
CONSOLE: Final = "console"
"""In the bundle: a socket, for whoever wants to be at the domain's console."""
_SECONDS: Final = 120.0


class KeeperError(Exception):
    """«cannot X: why»."""


class Kept(NamedTuple):
    """`xl`: the program; `config`: the domain's, for it; `groups`: control groups' cgroup.procs.
    `taps`: interfaces that are held open, since a bridge sends nothing to one that nobody has.
    """

    name: str
    xl: str
    config: str
    groups: tuple[str, ...] = ()
    taps: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()


def decode(data: bytes) -> Kept:
    fields: dict[str, Any] = json.loads(data)
    groups, taps = (tuple(fields.pop(name)) for name in ("groups", "taps"))
    return Kept(**fields, groups=groups, taps=taps)


def create(bundle: Path, pid_file: Path) -> None:
    """Returns when the domain is there and its keeper runs. Raises KeeperError, OSError."""
    kept = decode((bundle / "keeper.json").read_bytes())
    for name in kept.taps:
        open_tap(name)  # until the keeper ends
    listening = listen(bundle / CONSOLE)
    _create(kept, paused=True)
    pid = os.fork()
    if pid == 0:
        _be_keeper(kept, listening)
    pid_file.write_text(str(pid))


def _create(kept: Kept, *, paused: bool) -> None:
    code, said = _xl(kept, "create", *(("-p",) if paused else ()), "-e", "-q", kept.config)
    if code:
        raise KeeperError(f"cannot create the domain: {said}")


def _xl(kept: Kept, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was said, as one line."""
    done = subprocess.run(
        [kept.xl, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    said = done.stderr if done.returncode else done.stdout
    return done.returncode, said.decode(errors="replace").strip()


def look(kept: Kept) -> Listed | None:
    """None: there is no such domain. Raises KeeperError."""
    code, said = _xl(kept, "list", "-v")
    if code:
        raise KeeperError(f"cannot look at the domain: {said}")
    return next((one for one in parse_list(said) if one.name == kept.name), None)


def _be_keeper(kept: Kept, listening: socket.socket) -> NoReturn:
    """For a process that was just forked."""
    code = _FAILED
    try:
        os.setsid()
        for group in kept.groups:
            Path(group).write_text(str(os.getpid()))
        code = _keep(kept, Console(sys.stdout.fileno(), listening))
    except BaseException as failure:  # noqa: BLE001 - whatever it was, this process must end here
        _say(f"{failure}")
    finally:
        os._exit(code)


def _keep(kept: Kept, console: Console) -> int:
    with contextlib.closing(XenStore.connect()) as store, contextlib.closing(console):
        store.watch(DOMAIN_ENDED)
        while (code := _follow(kept, store, console)) is None:
            _create(kept, paused=False)
    return code


def _follow(kept: Kept, store: XenStore, console: Console) -> int | None:
    """Until the domain ends: the exit code; None: it wants to start again."""
    found = look(kept)
    if found is not None:
        _open_console(store, found.number, console)
    found = look(kept)  # an end that was told while the store was asked is not told again
    while found is not None and found.reason is None:
        if console.wait(store.fileno()):
            store.changed()
            found = look(kept)
    console.finish()
    if found is None:
        return GONE
    _xl(kept, "destroy", str(found.number))
    if found.reason is Reason.REBOOT:
        return None
    return 0 if found.reason is Reason.POWER_OFF else CRASHED


def _open_console(store: XenStore, number: int, console: Console) -> None:
    """A terminal that xenconsoled made; it appears soon after the domain."""
    path = f"/local/domain/{number}/console/tty"
    deadline = time.monotonic() + _SECONDS
    while not (name := store.read(path)):
        if time.monotonic() > deadline:
            _say("cannot show the domain's console: there is none")
            return
        time.sleep(0.02)
    console.open(name)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """conmon's words: `create --bundle B --pid-file P ID`."""
    given = dict(itertools.pairwise(arguments))
    try:
        create(Path(given["--bundle"]), Path(given["--pid-file"]))
    except (KeeperError, StoreError, OSError, subprocess.TimeoutExpired, KeyError) as failure:
        _say(f"{failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
