"""Clients that send too much, too little or nothing at all: they are refused, and everybody else is served."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

from tests.registry.process import RegistryProcess

KERNEL = "small/relu"
MB = 1 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """Serve a registry that takes files of a megabyte, commits of three, and waits for half a second."""
    options = ("--max-file", "1", "--patience", "0.5")
    with RegistryProcess(tmp_path_factory.mktemp("small") / "registry", options, tokens=False) as running:
        running.api().create_repo(KERNEL, repo_type="kernel")
        yield running


def commit_url(registry: RegistryProcess) -> str:
    return f"{registry.endpoint}/api/kernels/{KERNEL}/commit/main"


def connect(registry: RegistryProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", registry.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the registry hangs up, be it in the middle of what is sent to it."""
    received: list[bytes] = []
    with suppress(ConnectionResetError):
        received.extend(iter(lambda: connection.recv(1 << 16), b""))
    return b"".join(received)


def check_alive(registry: RegistryProcess) -> None:
    """It still serves, holds what it held, and has kept nothing of what it refused."""
    assert [entry.path for entry in registry.api().list_repo_tree(KERNEL, repo_type="kernel")] == [".gitattributes"]
    left: list[Path] = []
    for _ in range(200):  # it may still be about to notice that somebody hung up
        left = [path for path in (registry.root / "incoming").rglob("*") if path.is_file()]
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"the registry keeps {left}")


def test_bodies_that_are_too_large(small: RegistryProcess) -> None:
    line = json.dumps({"key": "header", "value": {"summary": "x"}}).encode() + b"\n"
    for body in (line + b"x" * 4 * MB, iter([line, b"x" * 2 * MB, b"x" * 2 * MB])):
        answer = httpx.post(commit_url(small), content=body)
        assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    content = b"A" * (4 * (MB + 3) // 3 // 4 * 4 + 8)
    file = b'{"key": "file", "value": {"path": "a", "encoding": "base64", "content": "' + content + b'"}}\n'
    assert httpx.post(commit_url(small), content=line + file).status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    create = httpx.post(f"{small.endpoint}/api/repos/create", content=b"[" * 9 * MB)
    assert create.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    with pytest.raises(HfHubHTTPError, match="413"):
        small.api().create_commit(
            KERNEL, [CommitOperationAdd("a", bytes(MB + 1))], commit_message="big", repo_type="kernel"
        )
    check_alive(small)


def test_what_is_announced_is_refused_before_it_is_sent(small: RegistryProcess) -> None:
    with closing(connect(small)) as connection:
        head = (
            f"POST /api/kernels/{KERNEL}/commit/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 40}\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")
    check_alive(small)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_compressed_bodies_are_not_unfolded(small: RegistryProcess, encoding: str) -> None:
    bomb = gzip.compress(bytes(64 * MB))
    answer = httpx.post(commit_url(small), content=bomb, headers={"Content-Encoding": encoding})
    assert answer.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    check_alive(small)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api/repos/cre",
        b"GET /api/whoami-v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /and-then",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        f"POST /api/kernels/{KERNEL}/commit/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode(),
        b"POST /api/repos/create HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_clients_that_stop_talking_are_left(small: RegistryProcess, sent: bytes) -> None:
    with closing(connect(small)) as connection:
        connection.sendall(sent)
        answer = read_all(connection)  # ends because the registry hangs up
    assert not answer or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 4"))
    check_alive(small)


def test_bodies_that_are_cut_off_change_nothing(small: RegistryProcess) -> None:
    line = json.dumps({"key": "header", "value": {"summary": "x"}}) + "\n"
    for cut in (1, len(line) // 2, len(line)):
        with closing(connect(small)) as connection:
            head = f"POST /api/kernels/{KERNEL}/commit/main HTTP/1.1\r\nHost: localhost\r\n"
            connection.sendall(f"{head}Content-Length: {len(line) + 9}\r\n\r\n{line[:cut]}".encode())
    check_alive(small)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"A" * 200_000, b"\0" * 100]
)
def test_noise_is_answered_or_hung_up_on(small: RegistryProcess, sent: bytes) -> None:
    with closing(connect(small)) as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    check_alive(small)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/repos/create", b"not json"),
        ("POST", "/api/repos/create", b"[]"),
        ("POST", "/api/repos/create", b'{"name": {"a": 1}}'),
        ("POST", "/api/repos/create", b'{"name": "x", "type": "space"}'),
        ("POST", "/api/repos/create", b'{"name": "x", "visibility": "secret"}'),
        ("POST", "/api/repos/move", b'{"fromRepo": "a", "toRepo": "b/c"}'),
        ("DELETE", "/api/repos/delete", b"{}"),
        ("POST", f"/api/kernels/{KERNEL}/preupload/main", b"{}"),
        ("POST", f"/api/kernels/{KERNEL}/preupload/main", b'{"files": [{"path": "../a", "size": 1}]}'),
        ("POST", f"/api/kernels/{KERNEL}/preupload/main", b'{"files": [{"path": "a", "size": "1"}]}'),
        ("POST", f"/api/kernels/{KERNEL}/paths-info/main", b"paths=%FF"),
        ("POST", f"/kernels/{KERNEL}.git/info/lfs/objects/batch", b'{"operation": "format", "objects": []}'),
        (
            "POST",
            f"/kernels/{KERNEL}.git/info/lfs/objects/batch",
            b'{"operation": "upload", "objects": [{"oid": ".."}]}',
        ),
        ("POST", f"/api/kernels/{KERNEL}/branch/x", b'{"startingPoint": 3}'),
        ("POST", f"/api/kernels/{KERNEL}/tag/main", b"{}"),
        ("GET", f"/api/kernels/{KERNEL}/tree/%FF", b""),
        ("GET", "/api/kernels/%2e%2e/%2e%2e", b""),
        ("GET", f"/api/kernels/{KERNEL}/tree/main?cursor=-1", b""),
        ("GET", f"/api/kernels/{KERNEL}/discussions?type=flame-war", b""),
        ("PUT", f"/api/kernels/{KERNEL}/settings", b"{}"),
        ("POST", "/api/validate-yaml", b'{"content": 3}'),
    ],
)
def test_requests_that_make_no_sense(small: RegistryProcess, method: str, path: str, body: bytes) -> None:
    answer = httpx.request(method, f"{small.endpoint}{path}", content=body)
    assert answer.status_code == HTTPStatus.BAD_REQUEST, answer.text
    assert answer.json()["error"]
    check_alive(small)


@pytest.mark.parametrize(
    "revision", ["%2e", "..", "%2e%2e", "%2e%2e%2fheads%2fmain", "%00", "x" * 300, "refs%2Fheads%2F.."]
)
def test_revisions_that_are_none(small: RegistryProcess, revision: str) -> None:
    with closing(connect(small)) as connection:
        path = f"/api/kernels/{KERNEL}/tree/{revision}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"x-error-code: RevisionNotFound" in answer


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    """Files of more than a megabyte are refused by the system, as all are when there is no space left."""
    with RegistryProcess(tmp_path / "registry", tokens=False, file_limit=MB) as running:
        api = running.api()
        api.create_repo(KERNEL, repo_type="kernel")
        addition = CommitOperationAdd("a", bytes(2 * MB))
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_commit(KERNEL, [addition], commit_message="too much", repo_type="kernel")
        assert refused.value.response.status_code == HTTPStatus.INSUFFICIENT_STORAGE
        check_alive(running)
        addition = CommitOperationAdd("a", b"1")
        api.create_commit(KERNEL, [addition], commit_message="little", repo_type="kernel")
        running.stop()
        assert "no space left" in running.log[0]
        assert "Traceback" not in running.log[0]


def test_what_is_not_spoken_is_said(small: RegistryProcess) -> None:
    for path in ("/api/spaces", "/api/spaces/a/b", "/api/collections", f"/api/kernels/{KERNEL}/xet-write-token/main"):
        assert httpx.get(f"{small.endpoint}{path}").status_code == HTTPStatus.NOT_FOUND
    assert httpx.put(f"{small.endpoint}/api/repos/create").status_code == HTTPStatus.METHOD_NOT_ALLOWED


def test_the_log_has_no_tracebacks(small: RegistryProcess) -> None:
    assert small.stop() == 0
    assert "Traceback" not in "".join(small.log)
    assert "internal error" not in "".join(small.log)
    assert "Exception" not in "".join(small.log)
    small.start()
