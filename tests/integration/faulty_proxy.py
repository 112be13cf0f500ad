"""A proxy on the loopback interface that does to requests what networks and servers do on a bad day.

What happens to which request follows from a seed alone, as far as a client sends its requests in a fixed order.
"""

from __future__ import annotations

import http.client
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread, Timer
from typing import Self

from tests.registry.process import RegistryProcess

_LONGEST_DELAY = 0.05
_LATEST_KILL = 0.03
_SECONDS = 60


class Fault(StrEnum):
    """What can happen to one request."""

    CUT_BEFORE = "the connection ends before the server has seen the request"
    CUT_REQUEST = "the connection ends in the middle of the request"
    CUT_RESPONSE = "the connection ends in the middle of the answer"
    LOST_RESPONSE = "the server does as it is told, and the answer never comes"
    MASKED = "the server does as it is told, and the answer is a 500 of somebody else's"
    DELAY = "everything takes longer"
    BUSY = "429 with a `Retry-After`"
    BROKEN = "500"
    AWAY = "503"
    TWICE = "the server is told twice, and the client gets its second answer"
    KILL = "the server is killed while it works, and started again"


HARMLESS = frozenset({Fault.DELAY})


@dataclass(frozen=True, slots=True)
class Incident:
    """A fault and the request that it happened to."""

    fault: Fault
    method: str
    path: str


@dataclass
class FaultyProxy:
    """Stands before a registry; `endpoint` is what its clients are given.

    seed: decides all there is to chance. rate: of the requests that something happens to. most: how many such there
    are at most, so that a client that tries again arrives in the end. faults: what may happen. only: what is in the
    path of each request that something happens to.
    """

    registry: RegistryProcess
    seed: int
    rate: float = 0.3
    most: int = 4
    faults: Sequence[Fault] = tuple(Fault)
    only: str = ""
    incidents: list[Incident] = field(default_factory=list)
    endpoint: str = ""

    def __enter__(self) -> Self:
        self._random = random.Random(self.seed)  # noqa: S311 - a test's dice
        self._lock = Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def choose(self, method: str, path: str) -> tuple[Fault | None, float]:
        """Decide what happens to a request, and a number from 0 to 1 for how much or when."""
        with self._lock:
            amount = self._random.random()
            harm = [incident for incident in self.incidents if incident.fault not in HARMLESS]
            if self._random.random() >= self.rate or len(harm) >= self.most or self.only not in path:
                return None, amount
            fault = self._random.choice(list(self.faults))
            self.incidents.append(Incident(fault, method, path))
            return fault, amount

    def kill(self) -> None:
        """Kill the registry and start it again."""
        with self._lock:
            self.registry.kill()
            self.registry.start()

    def reach_registry(self) -> socket.socket:
        """Connect to the registry, waiting while it is started again."""
        with self._lock:
            return socket.create_connection(("127.0.0.1", self.registry.port), timeout=_SECONDS)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], proxy: FaultyProxy) -> None:
        super().__init__(address, _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: connections that end are what this is about."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


_MADE_UP: Mapping[Fault | None, _Answer] = {
    Fault.BUSY: _Answer(429, [("Retry-After", "0")], b"{}"),
    Fault.BROKEN: _Answer(500, [], b"{}"),
    Fault.AWAY: _Answer(503, [], b"{}"),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _pass_on(self) -> None:
        body = self._read_body()
        proxy = self.server.proxy
        fault, amount = proxy.choose(self.command, self.path)
        try:
            answer = self._suffer(fault, amount, body)
        except (OSError, http.client.HTTPException):
            answer = None  # killed, or cut off
        if answer is None:
            self._hang_up()
            return
        self._send(answer, whole=fault is not Fault.CUT_RESPONSE, amount=amount)

    def _suffer(self, fault: Fault | None, amount: float, body: bytes) -> _Answer | None:
        """Let the fault happen; give the answer that is left, `None` for none."""
        if fault in _MADE_UP:
            return _MADE_UP[fault]
        if fault is Fault.CUT_BEFORE:
            return None
        if fault is Fault.DELAY:
            time.sleep(amount * _LONGEST_DELAY)
        elif fault is Fault.TWICE:
            self._ask(body)
        killer = Timer(amount * _LATEST_KILL, self.server.proxy.kill)
        if fault is Fault.KILL:
            killer.start()
        try:
            answer = self._ask(body, share=amount if fault is Fault.CUT_REQUEST else 1)
        finally:
            if fault is Fault.KILL:
                killer.join()
        if fault in {Fault.LOST_RESPONSE, Fault.KILL}:
            return None
        return _Answer(500, [], b"{}") if fault is Fault.MASKED else answer

    def _ask(self, body: bytes, share: float = 1.0) -> _Answer | None:
        """Send the request on, or only a share of its bytes; give the answer to a whole one."""
        head = [f"{self.command} {self.path} HTTP/1.1"]
        dropped = {"connection", "content-length", "transfer-encoding", "expect"}
        head += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in dropped]
        head += ["Connection: close", f"Content-Length: {len(body)}", "", ""]
        message = "\r\n".join(head).encode("latin-1") + body
        with self.server.proxy.reach_registry() as connection:
            connection.sendall(message[: int(len(message) * share)])
            if share < 1:
                return None
            response = http.client.HTTPResponse(connection, method=self.command)
            response.begin()
            content = response.read()
            return _Answer(response.status, response.getheaders(), content)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, answer: _Answer, *, whole: bool, amount: float) -> None:
        head = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        dropped = {"connection", "transfer-encoding"} | ({"content-length"} if self.command != "HEAD" else set())
        head += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in dropped]
        if self.command != "HEAD" and answer.status not in {204, 304}:
            head.append(f"Content-Length: {len(answer.body)}")
        message = "\r\n".join([*head, "", ""]).encode("latin-1") + answer.body
        with suppress(OSError):
            self.wfile.write(message if whole else message[: int(len(message) * amount)])
        if not whole:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
