"""Words of the command line for where something is answered."""

from __future__ import annotations

import click

Endpoint = tuple[str, int]


class HostPort(click.ParamType[Endpoint]):
    """`HOST:PORT`; an IPv6 address in brackets."""

    name = "host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Endpoint:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 0xFFFF:
            self.fail(f"{str(value)!r} is not HOST:PORT", param, ctx)
        return host.strip("[]"), int(port)


class PortPair(click.ParamType[tuple[int, int]]):
    """`PORT:PORT`."""

    name = "port:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        outer, _, inner = str(value).partition(":")
        if not all(port.isdecimal() and 0 < int(port) <= 0xFFFF for port in (outer, inner)):
            self.fail(f"{str(value)!r} is not PORT:PORT", param, ctx)
        return int(outer), int(inner)
