"""Whether the controller can be reached by one port, and what stands in the way if not."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import msgspec

from edgevirt.host.net import question
from edgevirt.host.net.names import known_address
from edgevirt.model.ports import Reach

PING: Final = "/api/v2/edgedevice/ping"
_WORKS: Final = frozenset({200, 201, 204, 304})
_LINE_MAX: Final = 1024
_WRONG_NAME: Final = frozenset({62, 63, 64})
_WRONG_TIME: Final = frozenset({9, 10})
"""Of OpenSSL's X509_V_ERR_… (x509_vfy.h): a host's, mail's or address's mismatch; not yet valid,
expired."""
_AT_ONCE: Final = 8
_TRIES: Final = 4


class Finding(msgspec.Struct, frozen=True):
    """`why`: the rest of «cannot reach the controller: …»; empty when it works."""

    reach: Reach
    why: str = ""


class Prober(Protocol):
    async def ping(self, interface: str, dns: Sequence[str], timeout: float) -> Finding:
        """Asks the controller for a sign of life by `interface`, its name being looked up at `dns`.
        `timeout`: seconds for each step. Never raises for what the network does."""
        ...


class HttpsProber:
    """`server`: name or address, and perhaps a port. `roots`: files; what isn't there is left out.

    Nothing goes through a proxy yet. Needs CAP_NET_RAW, to choose the interface.
    """

    def __init__(self, server: str, roots: Sequence[Path]) -> None:
        self.host, self.port = split(server)
        self._roots = roots
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="probe")

    async def ping(self, interface: str, dns: Sequence[str], timeout: float) -> Finding:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ping, interface, dns, timeout)

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _ping(self, interface: str, dns: Sequence[str], timeout: float) -> Finding:
        try:
            tls = self._context()
        except (OSError, ssl.SSLError) as error:
            return Finding(Reach.WRONG_ROOT, f"the root certificate cannot be read: {error}")
        try:
            addresses = self._look_up(interface, dns, timeout)
        except question.NoAnswer as error:
            return Finding(Reach.NO_DNS, f"{self.host} cannot be looked up: {error}")
        finding = Finding(Reach.NO_DNS, f"{self.host} has no address in the DNS")
        for address in addresses[:_TRIES]:
            finding = self._try(address, interface, tls, timeout)
            if finding.reach is not Reach.NO_ROUTE:
                break
        return finding

    def _context(self) -> ssl.SSLContext:
        """Only the roots that the node was given: the system's are not asked."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        for root in self._roots:
            if root.exists():
                tls.load_verify_locations(cafile=str(root))
        return tls

    def _look_up(self, interface: str, dns: Sequence[str], timeout: float) -> list[str]:
        known = known_address(self.host)
        if known:
            return [known]
        problem = question.NoAnswer("the port has no DNS server")
        share = timeout / max(1, len(dns))
        for server in dns:
            try:
                found = question.ask(server, self.host, interface, share)
                return found or question.ask(server, self.host, interface, share, question.AAAA)
            except question.NoAnswer as error:
                problem = error
        raise problem

    def _try(self, address: str, interface: str, tls: ssl.SSLContext, timeout: float) -> Finding:
        deadline = time.monotonic() + timeout
        place = f"{self.host}:{self.port} ({address})" if address != self.host else self._name()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.settimeout(timeout)
            try:
                question.bind_to(line, interface)
                line.connect((address, self.port))
            except ConnectionRefusedError:
                return Finding(Reach.REFUSED, f"{place} refuses connections")
            except TimeoutError:
                return Finding(Reach.NO_ROUTE, f"{place} does not answer")
            except OSError as error:
                return Finding(Reach.NO_ROUTE, f"{place}: {error.strerror or error}")
            try:
                with tls.wrap_socket(line, server_hostname=self.host) as secured:
                    return self._ask(secured, deadline)
            except ssl.SSLCertVerificationError as error:
                return self._distrust(error)
            except TimeoutError:
                return Finding(Reach.NO_ROUTE, f"{place} took the connection and is silent")
            except (OSError, ValueError) as error:
                return Finding(Reach.NO_TLS, f"{place} does not speak TLS: {error}")

    def _name(self) -> str:
        return f"{self.host}:{self.port}"

    def _distrust(self, error: ssl.SSLCertVerificationError) -> Finding:
        words = f"certificate verify failed: {error.verify_message}"
        if error.verify_code in _WRONG_NAME:
            return Finding(
                Reach.WRONG_SERVER, f"{self._name()} has a certificate for another name ({words})"
            )
        if error.verify_code in _WRONG_TIME:
            today = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
            return Finding(
                Reach.CERTIFICATE_TIME,
                f"the certificate of {self._name()} is not valid at {today} UTC ({words})",
            )
        return Finding(
            Reach.WRONG_ROOT,
            f"the certificate of {self._name()} does not lead to this node's root certificate "
            f"({words})",
        )

    def _ask(self, line: ssl.SSLSocket, deadline: float) -> Finding:
        line.sendall(
            f"GET {PING} HTTP/1.1\r\nHost: {self._name()}\r\nX-Request-Id: {uuid.uuid4()}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        said = b""
        while b"\r\n" not in said and len(said) < _LINE_MAX:
            left = deadline - time.monotonic()
            if left <= 0:
                return Finding(Reach.NO_ROUTE, f"{self._name()} took the question and is silent")
            line.settimeout(left)
            chunk = line.recv(_LINE_MAX)
            if not chunk:
                break
            said += chunk
        return self._judge(said)

    def _judge(self, said: bytes) -> Finding:
        words = said.partition(b"\r\n")[0].split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            return Finding(Reach.REFUSES, f"{self._name()} does not speak HTTP")
        status = int(words[1])
        if status in _WORKS:
            return Finding(Reach.OK)
        reach = Reach.UNAVAILABLE if status >= 500 else Reach.REFUSES
        return Finding(reach, f"{self._name()} answers {status} to a ping")


def split(server: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[v6]:port` or an address. 443 where none is said."""
    server = server.strip()
    try:
        return str(ipaddress.ip_address(server.strip("[]"))), 443
    except ValueError:
        pass
    host, colon, port = server.rpartition(":")
    if colon and port.isdigit() and 0 < int(port) < 65_536:
        return host.strip("[]"), int(port)
    return server, 443
