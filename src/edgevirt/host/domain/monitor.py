"""conmon and the OCI runtime, as commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.container.bundle import Bundle
from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.host.processes import Process, identify, output, read_line

SECONDS = 120.0
"""For one command; a machine that swaps may need many."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

_LOGGED = re.compile(r'msg=("(?:[^"\\]|\\.)*")')


class _Answer(msgspec.Struct):
    """conmon's line on the pipe: the container's process, or a negative number and why."""

    data: int
    message: str = ""


class Conmon(msgspec.Struct, frozen=True):
    """How a domain's process is started and watched over.

    `runtime`: a program that conmon calls as an OCI runtime, with its first arguments: it makes
    the process, writes its number down and ends. `what`: in errors.
    """

    runtime: tuple[str, ...]
    what: str = "container"
    program: str = "/usr/bin/conmon"
    console_bytes: int = 4 << 20
    """At which conmon starts a console's file anew."""
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Of the runtime, besides a path."""

    async def create(self, bundle: Bundle, console: Path, group: Cgroup) -> tuple[Process, Process]:
        """Makes the process of a bundle: (itself, its conmon).

        conmon goes into `group` before it forks. Raises HypervisorError, UnfitError.
        """
        with _pipe() as (answer, answer_end), _pipe() as (go_end, go):
            with bundle.monitor_errors.open("wb") as errors:
                process = await asyncio.create_subprocess_exec(
                    *self._command(bundle, console),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=errors,
                    env={
                        **ENVIRONMENT,
                        **self.environment,
                        "_OCI_SYNCPIPE": str(answer_end.fd),
                        "_OCI_STARTPIPE": str(go_end.fd),
                    },
                    pass_fds=(answer_end.fd, go_end.fd),
                    cwd=bundle.directory,  # conmon leaves a file `oom` where it is
                )
            answer_end.close()
            group.create()
            with contextlib.suppress(ProcessLookupError):
                group.add(process.pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(go.fd, b"\0")
            try:
                line = await read_line(answer.fd, timeout=SECONDS)
            except TimeoutError as failure:
                raise HypervisorError(
                    f"cannot create the {self.what}: no answer in {SECONDS:.0f} s"
                ) from failure
            await process.wait()
        pid = self._created_pid(bundle, line)
        made, monitor = identify(pid), identify(self._read_pid(bundle.monitor_pid))
        if made is None or monitor is None:
            raise HypervisorError(f"cannot create the {self.what}: it ended before it was started")
        return made, monitor

    def _command(self, bundle: Bundle, console: Path) -> list[str]:
        command = [self.program, "--api-version", "1", "--full-attach", "--no-sync-log"]
        command += ["--cid", bundle.app, "--cuuid", bundle.app, "--bundle", str(bundle.directory)]
        command += ["--runtime", self.runtime[0]]
        for argument in self.runtime[1:]:
            command += ["--runtime-arg", argument]
        command += ["--conmon-pidfile", str(bundle.monitor_pid)]
        command += ["--container-pidfile", str(bundle.container_pid)]
        command += ["--exit-dir", str(bundle.exits)]
        command += ["--log-path", f"k8s-file:{console}"]
        return [*command, "--log-size-max", str(self.console_bytes)]

    def _created_pid(self, bundle: Bundle, line: bytes) -> int:
        try:
            answer = msgspec.json.decode(line, type=_Answer)
        except msgspec.MsgspecError as failure:
            said = " ".join(bundle.monitor_errors.read_text(errors="replace").split())
            raise HypervisorError(f"cannot create the {self.what}: {said or line!r}") from failure
        if answer.data <= 0:
            raise _failure(f"create the {self.what}", answer.message)
        return answer.data

    def _read_pid(self, path: Path) -> int:
        try:
            return int(path.read_text())
        except (FileNotFoundError, ValueError) as failure:
            raise HypervisorError(f"cannot create the {self.what}: no {path.name}") from failure


class Runtime(msgspec.Struct, frozen=True):
    """`root`: the runtime's state directory, one for all containers of a node."""

    root: Path
    program: str = "/usr/sbin/runc"
    monitor: str = "/usr/bin/conmon"
    console_bytes: int = 4 << 20

    @property
    def conmon(self) -> Conmon:
        """Starts a container's process."""
        return Conmon(
            (self.program, "--root", str(self.root)),
            program=self.monitor,
            console_bytes=self.console_bytes,
        )

    async def start(self, bundle: Bundle) -> None:
        code, said = await self._run("start", bundle.app)
        if code != 0:
            raise _failure("start the container", said)

    async def delete(self, bundle: Bundle) -> None:
        """Ends the container if it runs, and makes the runtime forget it. Idempotent."""
        if not (self.root / bundle.app).exists():
            return
        code, said = await self._run("delete", "--force", bundle.app)
        if code != 0 and (self.root / bundle.app).exists():
            raise _failure("delete the container", said)

    async def _run(self, *arguments: str) -> tuple[int, str]:
        try:
            return await output(
                [self.program, "--root", str(self.root), *arguments],
                timeout=SECONDS,
                env=ENVIRONMENT,
            )
        except TimeoutError as failure:
            raise HypervisorError(
                f"cannot {arguments[0]} the container: no answer in {SECONDS:.0f} s"
            ) from failure


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[_End, _End]]:
    """(reading, writing)."""
    ends = reading, writing = tuple(_End(fd) for fd in os.pipe())
    try:
        yield reading, writing
    finally:
        for end in ends:
            end.close()


def _failure(what: str, said: str) -> HypervisorError:
    """The runtime says of a command that isn't in the image, or isn't executable: `exec: "x"`."""
    text = f"cannot {what}: {_last_words(said)}"
    return UnfitError(text) if 'exec: \\"' in said or 'exec: "' in said else HypervisorError(text)


def _last_words(said: str) -> str:
    """The runtime logs `time=… level=error msg="…"`: of its last line the message alone."""
    found = _LOGGED.findall(said)
    if not found:
        return said.strip()[-2000:]
    try:
        return msgspec.json.decode(found[-1], type=str)[-2000:]
    except msgspec.MsgspecError:
        return str(found[-1])[-2000:]
