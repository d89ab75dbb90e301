"""Fetches locked packages by hash, several at once; what was fetched is kept by its hash."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from edgevirt.image.errors import ImageError
from edgevirt.image.packages.lock import Package

_AT_ONCE: Final = 4
_TRIES: Final = 3
_TIMEOUT: Final = httpx.Timeout(60.0)


class FetchError(ImageError):
    """«cannot fetch X: why»."""


@dataclass(frozen=True)
class Pool:
    """`directory`: `<sha256>.deb`; `mirrors`: by archive, where it is."""

    directory: Path
    mirrors: Mapping[str, str]

    def fetch(self, packages: Iterable[Package]) -> list[Path]:
        """The packages' files, verified, in their order. Raises FetchError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (
            httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
            concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as workers,
        ):
            return list(workers.map(lambda package: self._one(client, package), packages))

    def _one(self, client: httpx.Client, package: Package) -> Path:
        path = self.directory / f"{package.sha256}.deb"
        if path.exists():
            return path
        for attempt in range(1, _TRIES + 1):
            try:
                self._download(client, package, path)
                return path
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 404:
                    raise FetchError(
                        f"cannot fetch {package.name} {package.version}: the mirror does not have"
                        " it any more; lock anew with `edgevirt image lock`"
                    ) from None
                failure: Exception = error
            except (httpx.HTTPError, OSError) as error:
                failure = error
            if attempt == _TRIES:
                raise FetchError(f"cannot fetch {package.name}: {failure}") from None
        raise AssertionError("the last try returned or raised")

    def _download(self, client: httpx.Client, package: Package, path: Path) -> None:
        if package.archive not in self.mirrors:
            raise FetchError(f"cannot fetch {package.name}: no mirror has {package.archive}")
        url = f"{self.mirrors[package.archive]}/{urllib.parse.quote(package.path)}"
        digest = hashlib.sha256()
        got = 0
        with tempfile.NamedTemporaryFile(dir=self.directory, prefix=".new-", delete=False) as file:
            try:
                with client.stream("GET", url) as answer:
                    answer.raise_for_status()
                    for chunk in answer.iter_bytes():
                        got += len(chunk)
                        if got > package.size:
                            break
                        digest.update(chunk)
                        file.write(chunk)
                if digest.hexdigest() != package.sha256:
                    raise FetchError(
                        f"cannot fetch {package.name} {package.version}: what the mirror sent is"
                        " not what was locked"
                    )
                file.close()
                os.rename(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
