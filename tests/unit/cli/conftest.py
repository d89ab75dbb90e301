"""The command line's tests share one fleet; each has a project of its own in it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.parts.command_line import CommandLine, Fleet

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.stop()


@pytest.fixture
def cli(fleet: Fleet) -> Iterator[CommandLine]:
    line = CommandLine(fleet, f"project-{next(_numbers)}")
    yield line
    line.close()


@pytest.fixture
def silent_kubeconfig(fleet: Fleet, tmp_path: Path) -> Iterator[str]:
    """Of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = yaml.safe_load(fleet.kubeconfig.read_text())
        port = listener.getsockname()[1]
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        path = tmp_path / "silent"
        path.write_text(yaml.safe_dump(config))
        yield str(path)
