"""Where Edge Container Images are made as people make them: the command, a registry, skopeo."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.parts.docker_registry import PASSWORD, USER, DockerRegistry, docker_registry

MI = 1 << 20
EMULATED = 240.0
"""Seconds for a container's machine on a processor that starts no guests, and is busy."""


@dataclass(frozen=True)
class Workshop:
    """A directory, a registry that wants a password, and who has logged in to it."""

    where: Path
    registry: DockerRegistry

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "edgevirt", "eci", *words],
            cwd=self.where,
            env={**os.environ, "DOCKER_CONFIG": str(self.where), **(env or {})},
            capture_output=True,
            text=True,
            timeout=EMULATED,
            check=False,
        )
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def eci(self, *words: str) -> str:
        code, said, wrong = self.run(*words)
        assert code == 0, wrong
        return said

    def refused(self, *words: str) -> str:
        code, _, wrong = self.run(*words)
        assert code == 1
        assert "Traceback" not in wrong
        return wrong

    def skopeo(self, *words: str) -> str:
        done = subprocess.run(
            ["skopeo", *words],
            cwd=self.where,
            env={**os.environ, "REGISTRY_AUTH_FILE": str(self.where / "config.json")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def name(self, text: str) -> str:
        return f"{self.registry.host}/{text}"


@contextmanager
def open_workshop(where: Path) -> Iterator[Workshop]:
    with docker_registry(where / "registry", basic=True) as registry:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        logins = {"auths": {registry.host: {"auth": pair}}}
        (where / "config.json").write_text(json.dumps(logins))
        yield Workshop(where, registry)


def make_machine(where: Path) -> str:
    """A machine with a disk of pieces. Returns the directory's name."""
    source = where / "machine"
    source.mkdir()
    (source / "vmlinuz").write_bytes(b"no kernel, but bytes")
    (source / "disk.raw").write_bytes(os.urandom(2 * MI) + bytes(4 * MI) + b"end")
    (source / "eci.yaml").write_text(
        "kernel: vmlinuz\ncmdline: console=ttyS0\nroot: {file: disk.raw, chunk: 1Mi}\n"
        "hardware: {cpus: 2, memory: 256Mi, devices: [serial]}\n"
    )
    return "machine"
