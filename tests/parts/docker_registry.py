"""Debian's `docker-registry`, run on a free port of the loopback for as long as a test needs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.parts.authority import Authority
from tests.parts.loopback import free_port
from tests.parts.rough_server import Request, RoughServer, answer, rough_server

USER, PASSWORD = "ali", "sesame"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O\n"
"""bcrypt of the password: the one hash that the registry takes."""


@dataclass(frozen=True)
class DockerRegistry:
    host: str
    """`127.0.0.1:PORT`."""
    process: subprocess.Popen[bytes]
    storage: Path


@contextmanager
def docker_registry(
    where: Path,
    *,
    basic: bool = False,
    token_server: str = "",
    tls: Authority | None = None,
    port: int = 0,
) -> Iterator[DockerRegistry]:
    """`token_server`: URL of one that signs with `tls`'s key, whose CA the registry then trusts."""
    port = port or free_port()
    where.mkdir(parents=True, exist_ok=True)
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}"}
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(where / "storage")}},
        "http": http,
    }
    if basic:
        (where / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(where / "htpasswd")}}
    elif token_server:
        assert tls is not None
        config["auth"] = {
            "token": {
                "realm": f"{token_server}/token",
                "service": "test",
                "issuer": "test",
                "rootcertbundle": str(tls.ca),
            }
        }
    if tls is not None and not token_server:
        http["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
    (where / "config.yml").write_text(yaml.safe_dump(config))
    with open(where / "log", "ab") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(where / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(port, process, where / "log", secure="tls" in http)
        yield DockerRegistry(f"127.0.0.1:{port}", process, where / "storage")
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path, *, secure: bool) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended: {log.read_text()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = (
                http.client.HTTPSConnection(
                    "127.0.0.1", port, context=ssl._create_unverified_context()
                )
                if secure
                else http.client.HTTPConnection("127.0.0.1", port)
            )
            with contextlib.closing(connection):
                connection.request("GET", "/v2/")
                connection.getresponse().read()
                return
        time.sleep(0.02)
    raise RuntimeError(f"docker-registry doesn't answer: {log.read_text()}")


@asynccontextmanager
async def token_server(authority: Authority) -> AsyncIterator[RoughServer]:
    """What a registry's token server does: a user and a scope in, a signed token out."""
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.headers.get("authorization") != wanted:
            answer(writer, 401, b"who are you?")
            return
        query = parse_qs(urlsplit(request.path).query)
        token = make_token(authority, query["scope"][0])
        body = json.dumps({"token": token}).encode()
        answer(writer, 200, body, content_type="application/json")

    async with rough_server(serve) as server:
        yield server


def make_token(authority: Authority, scope: str) -> str:
    key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    kind, name, actions = scope.split(":")
    now = int(time.time())
    head = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
    claims = {
        "iss": "test",
        "sub": USER,
        "aud": "test",
        "nbf": now - 10,
        "iat": now,
        "exp": now + 300,
        "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
    }
    signed = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims).encode())}"
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
