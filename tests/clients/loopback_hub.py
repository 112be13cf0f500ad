"""A Hub on the loopback interface that answers what the `kernels` loader asks, and nothing more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_BRANCH = "v1"
_NOT_FOUND = {"error": "not found"}

Repositories = Mapping[str, Mapping[str, bytes]]
"""What a Hub holds: repository id -> path -> content, on the one branch `v1`."""


def read_artifacts(folders: list[Path]) -> dict[str, bytes]:
    """Return the files of a kernel repository that holds these artifacts, under the paths that they have on the Hub."""
    files = {".gitattributes": b"*.so filter=lfs diff=lfs merge=lfs -text\n"}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"build/{folder.name}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return files


@contextmanager
def serve_hub(repositories: Repositories, trusted: frozenset[str]) -> Iterator[str]:
    """Serve these repositories until the end of the context; yield the endpoint. trusted: publishers to be trusted."""
    handler = type("Handler", (_Handler,), {"repositories": repositories, "trusted": trusted})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answer one request; what there is to serve is set on a subclass."""

    protocol_version = "HTTP/1.1"
    repositories: Repositories
    trusted: frozenset[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        match parts:
            case ["api", "organizations", owner, "overview"]:
                names = {"name": owner, "fullname": owner, "avatarUrl": ""}
                self._send_json({**names, "trustedKernelPublisher": owner in self.trusted})
            case ["api", "kernels", owner, name, *rest] if f"{owner}/{name}" in self.repositories:
                self._send_json(*_describe(f"{owner}/{name}", self.repositories[f"{owner}/{name}"], rest))
            case ["kernels", owner, name, "resolve", _revision, *path]:
                content = self.repositories.get(f"{owner}/{name}", {}).get("/".join(path))
                self._send_file(content, with_body=with_body)
            case _:
                self._send_json(_NOT_FOUND, 404)

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, with_body=True)

    def _send_file(self, content: bytes | None, *, with_body: bool) -> None:
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body=with_body)
        else:
            headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}
            self._send(200, content, headers, with_body=with_body)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _describe(repository: str, files: Mapping[str, bytes], question: list[str]) -> tuple[object, int]:
    """Answer `refs`, `revision/<rev>` and `tree/<rev>[/<folder>]` of one repository, with the HTTP status."""
    branch = {"name": _BRANCH, "ref": f"refs/heads/{_BRANCH}", "targetCommit": COMMIT}
    match question:
        case ["refs"]:
            return {"branches": [branch], "tags": [], "converts": []}, 200
        case ["revision", _revision]:
            return {"id": repository, "sha": COMMIT}, 200
        case ["tree", _revision]:
            return [_entry(path, content) for path, content in files.items()], 200
        case ["tree", _revision, folder]:
            names = sorted({path.split("/")[1] for path in files if path.startswith(f"{folder}/")})
            return [{"type": "directory", "oid": COMMIT, "size": 0, "path": f"{folder}/{name}"} for name in names], 200
        case _:
            return _NOT_FOUND, 404


def _entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "oid": _digest(content), "size": len(content), "path": path}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
