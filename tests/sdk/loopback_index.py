"""A package index on the loopback interface that is as good or as bad as a test wants it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread

_BLOCK = 16 << 10
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Manners:
    """How the index behaves; a test may change them while it runs.

    truncations: so many answers with files end after `truncate_at` bytes. busy: so many answers are 503. login: user
    and password that every request needs. flipped: bytes of files are changed on the way, at these offsets. pause:
    seconds before each block of a file. shift: range answers begin so many bytes later than asked. lengths:
    whole files come with their length.
    """

    ranges: bool = True
    suffix: bool = True
    as_json: bool = False
    truncations: int = 0
    truncate_at: int = 100_000
    busy: int = 0
    login: tuple[str, str] | None = None
    flipped: frozenset[int] = frozenset()
    pause: float = 0.0
    shift: int = 0
    lengths: bool = True
    wrong_hash: bool = False
    no_hash: bool = False
    redirect: str | None = None
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    range: str | None
    authorization: str | None


@dataclass(slots=True)
class LoopbackIndex:
    """url: base of the Simple API. sent: bytes of files that went out."""

    url: str
    manners: Manners
    requests: list[Request]
    sent: list[int]
    file_started: Event

    def count_files(self) -> int:
        return sum(request.path.startswith("/files/") for request in self.requests)


@contextmanager
def serve_index(
    files: Path, manners: Manners | None = None, *, tls: ssl.SSLContext | None = None
) -> Iterator[LoopbackIndex]:
    """Serve the wheels of a directory, which may grow later. tls: for `https:`."""
    manners = manners or Manners()
    index = LoopbackIndex("", manners, [], [], Event())
    handler = type("Handler", (_Handler,), {"files": files, "manners": manners, "index": index})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that hang up are the point
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        scheme = "http" if tls is None else "https"
        index.url = f"{scheme}://127.0.0.1:{server.server_port}/simple"
        yield index
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Path
    manners: Manners
    index: LoopbackIndex

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""

    def do_GET(self) -> None:
        manners = self.manners
        self.index.requests.append(Request(self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if manners.login is not None and not self._is_known():
            self._answer(401, b"who are you?", "text/plain")
        elif self._use_up("busy"):
            self._answer(503, b"later", "text/plain")
        elif self.path.startswith("/simple/"):
            self._answer_page(self.path.split("/")[2])
        elif manners.redirect is not None and self.path.startswith("/files/"):
            self._answer(302, b"", "text/plain", {"Location": manners.redirect + self.path})
        elif self.path.startswith("/files/") and (self.files / self.path.removeprefix("/files/")).is_file():
            self._answer_file((self.files / self.path.removeprefix("/files/")).read_bytes())
        else:
            self._answer(404, b"no", "text/plain")

    def _is_known(self) -> bool:
        user, password = self.manners.login or ("", "")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {token}"

    def _use_up(self, name: str) -> bool:
        with self.manners.lock:
            left: int = getattr(self.manners, name)
            setattr(self.manners, name, max(0, left - 1))
            return left > 0

    def _answer_page(self, project: str) -> None:
        wheels = sorted(
            path for path in self.files.glob("*.whl") if path.name.split("-")[0].replace("_", "-") == project
        )
        if not wheels:
            self._answer(404, b"no such project", "text/plain")
            return
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels}
        if self.manners.wrong_hash:
            digests = dict.fromkeys(digests, "0" * 64)
        if self.manners.as_json:
            entries = [
                {"filename": path.name, "url": f"../../files/{path.name}", "hashes": {"sha256": digests[path.name]},
                 "size": path.stat().st_size}
                for path in wheels
            ]  # fmt: skip
            body = json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": entries}).encode()
            self._answer(200, body, "application/vnd.pypi.simple.v1+json")
            return
        fragments = {name: "" if self.manners.no_hash else f"#sha256={digest}" for name, digest in digests.items()}
        anchors = "".join(
            f'<a href="../../files/{name}{fragment}">{name}</a>\n' for name, fragment in fragments.items()
        )
        self._answer(200, f"<!DOCTYPE html><html><body>{anchors}</body></html>".encode(), "text/html; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer_file(self, data: bytes) -> None:
        span = self._parse_range(len(data)) if self.manners.ranges else None
        if span == (0, 0):
            self._answer(501, b"unsupported range", "text/plain")
            return
        start, stop = span or (0, len(data))
        body = bytearray(data[start:stop])
        for offset in self.manners.flipped:
            if start <= offset < stop:
                body[offset - start] ^= 0xFF
        self.send_response(200 if span is None else 206)
        self.send_header("Content-Type", "application/octet-stream")
        if self.manners.lengths or span is not None:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        if span is not None:
            shift = self.manners.shift
            self.send_header("Content-Range", f"bytes {start + shift}-{stop - 1 + shift}/{len(data) + shift}")
        self.end_headers()
        cut = self.manners.truncate_at if len(body) > self.manners.truncate_at and self._use_up("truncations") else None
        self._send(bytes(body[:cut]))
        if cut is not None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _parse_range(self, size: int) -> tuple[int, int] | None:
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            return None
        if not match[1]:
            return (max(0, size - int(match[2])), size) if self.manners.suffix else (0, 0)
        return int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)

    def _send(self, body: bytes) -> None:
        for start in range(0, len(body), _BLOCK):
            if self.manners.pause:
                time.sleep(self.manners.pause)
            try:
                self.wfile.write(body[start : start + _BLOCK])
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
                return
            self.index.sent.append(len(body[start : start + _BLOCK]))
            self.index.file_started.set()
