"""Listening: the socket, the server around the application, and its orderly end."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.serve.app import build_app
from kernel_builder.serve.registry import Registry

_BACKLOG = 512
_MAX_CONNECTIONS = 512
_KEEP_ALIVE = 75
_GRACE = 10


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 for any that is free. Raises `BadInputError` when that is not possible."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInputError(
            Problem(f"cannot listen on `{host}`, port {port}: {reason}", hint="choose another `--host` or `--port`")
        ) from error
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url_of(listener: socket.socket, host: str) -> str:
    """The URL of a socket that was opened for this host; an address that stands for all is named by the machine."""
    port = listener.getsockname()[1]
    address = ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])
    name = socket.gethostname() if address.is_unspecified else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def run_server(registry: Registry, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until a signal comes; requests that are under way are answered first. started: called once it listens."""
    config = uvicorn.Config(
        build_app(registry),
        http=_make_protocol(registry.limits.patience),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    try:
        _Server(config, started).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # a signal is how a server is meant to end


class _Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets=sockets)
        self._tell_started()


class _PatientProtocol(H11Protocol):
    """Closes a connection over which no whole request header comes in time."""

    patience: ClassVar[float]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Set the clock."""
        super().connection_made(transport)
        self._first_header = self.loop.call_later(self.patience, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._first_header.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.close()


def _make_protocol(patience: float) -> type[_PatientProtocol]:
    return type("_Protocol", (_PatientProtocol,), {"patience": patience})
