"""Listening: the socket, the server around the application, and its orderly end."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.serve.app import build_app
from kernel_builder.serve.registry import Registry

_BACKLOG = 512
_MAX_CONNECTIONS = 512
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
        timeout_keep_alive=max(1, round(registry.limits.patience)),
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
    """Closes a connection over which a request's header does not come in time, however often a byte of it does."""

    patience: ClassVar[float]
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Set the clock for the first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Set the clock when a header has begun, stop it when it is whole."""
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        if not self._is_waiting():
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(self.patience, self._give_up)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _is_waiting(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _give_up(self) -> None:
        if self._is_waiting():
            self.transport.close()


def _make_protocol(patience: float) -> type[_PatientProtocol]:
    return type("_Protocol", (_PatientProtocol,), {"patience": patience})
