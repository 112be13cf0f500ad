"""Commits: what each operation does, what is checked, and what is refused as a whole."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import count
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

from tests.registry.process import WRITE_TOKEN, RegistryProcess

_TITLES = count()


Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete


def commit(
    api: HfApi, kernel: str, *operations: Operation, parent_commit: str | None = None, revision: str | None = None
) -> CommitInfo:
    return api.create_commit(
        kernel,
        operations,
        commit_message=f"commit {next(_TITLES)}",
        repo_type="kernel",
        parent_commit=parent_commit,
        revision=revision,
    )


def read_files(api: HfApi, kernel: str, folder: Path, revision: str | None = None) -> dict[str, bytes]:
    """The files of a revision but the one that every repository begins with."""
    snapshot = Path(
        api.snapshot_download(
            kernel, repo_type="kernel", revision=revision, cache_dir=folder, ignore_patterns=".gitattributes"
        )
    )
    return {path.relative_to(snapshot).as_posix(): path.read_bytes() for path in snapshot.rglob("*") if path.is_file()}


def post_commit(registry: RegistryProcess, kernel: str, lines: list[object] | bytes) -> httpx.Response:
    """Send a commit that no well-made client would send."""
    body = lines if isinstance(lines, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    url = f"{registry.endpoint}/api/kernels/{kernel}/commit/main"
    return httpx.post(url, content=body, headers={"Authorization": f"Bearer {WRITE_TOKEN}"})


def header(title: str = "a commit", **more: str) -> dict[str, object]:
    return {"key": "header", "value": {"summary": title, **more}}


def file(path: str, content: bytes = b"x") -> dict[str, object]:
    encoded = base64.b64encode(content).decode()
    return {"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}}


def test_operations_follow_each_other(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    api = shared.api()
    first = {"a.py": b"a", "build/one/x.so": b"x", "build/one/y.py": b"y", "build/two/z.py": b"z"}
    commit(api, kernel, *(CommitOperationAdd(path, content) for path, content in first.items()))
    commit(
        api,
        kernel,
        CommitOperationDelete("build/one/", is_folder=True),
        CommitOperationAdd("build/one/new.py", b"new"),
        CommitOperationCopy("build/two/z.py", "copy.py"),
        CommitOperationDelete("a.py"),
    )
    expected = {"build/one/new.py": b"new", "build/two/z.py": b"z", "copy.py": b"z"}
    assert read_files(api, kernel, tmp_path) == expected


def test_a_large_file_of_an_older_commit_can_be_copied(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    api = shared.api()
    old = commit(api, kernel, CommitOperationAdd("a.so", b"\x7fELF"))
    commit(api, kernel, CommitOperationDelete("a.so"))
    commit(api, kernel, CommitOperationCopy("a.so", "b.so", src_revision=old.oid))
    assert read_files(api, kernel, tmp_path) == {"b.so": b"\x7fELF"}


def test_a_commit_names_what_it_follows(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    api = shared.api()
    first = commit(api, kernel, CommitOperationAdd("a", b"1"))
    commit(api, kernel, CommitOperationAdd("a", b"2"), parent_commit=first.oid[:7])
    with pytest.raises(HfHubHTTPError) as refused:
        commit(api, kernel, CommitOperationAdd("a", b"3"), parent_commit=first.oid)
    assert refused.value.response.status_code == HTTPStatus.PRECONDITION_FAILED
    assert read_files(api, kernel, tmp_path) == {"a": b"2"}


def test_of_two_who_follow_the_same_commit_one_arrives(shared: RegistryProcess, kernel: str) -> None:
    head = shared.api().repo_info(kernel, repo_type="kernel").sha
    contents = [str(number).encode() for number in range(8)]

    def attempt(content: bytes) -> str | None:
        try:
            return commit(shared.api(), kernel, CommitOperationAdd("a", content), parent_commit=head).oid
        except HfHubHTTPError as error:
            return None if error.response.status_code == HTTPStatus.PRECONDITION_FAILED else "another error"

    with ThreadPoolExecutor(8) as pool:
        made = [oid for oid in pool.map(attempt, contents) if oid is not None]
    assert made == [shared.api().repo_info(kernel, repo_type="kernel").sha]


def test_commits_that_name_no_parent_all_arrive(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    paths = [f"file-{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: commit(shared.api(), kernel, CommitOperationAdd(path, path.encode())), paths))
    assert read_files(shared.api(), kernel, tmp_path) == {path: path.encode() for path in paths}


def test_deleting_what_is_not_there_changes_nothing(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    api = shared.api()
    for missing in ("nothing.py", "nothing/"):
        with pytest.raises(EntryNotFoundError):
            commit(api, kernel, CommitOperationAdd("a", b"1"), CommitOperationDelete(missing))
    with pytest.raises(RevisionNotFoundError):
        commit(api, kernel, CommitOperationAdd("a", b"1"), revision="nowhere")
    assert read_files(api, kernel, tmp_path) == {}


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "",
        ".git/config",
        "a/.GIT/hooks/x",
        ".git./x",
        "a\\..\\b",
        "a\0b",
        "line\nbreak",
        "right\u202eleft",
        "e\u0301",
        "x" * 256,
        "a/" * 600 + "b",
        "\ud800",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(shared: RegistryProcess, kernel: str, path: str) -> None:
    head = shared.api().repo_info(kernel, repo_type="kernel").sha
    for line in (
        file(path),
        {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": "0" * 64, "size": 1}},
        {"key": "deletedFile", "value": {"path": path}},
    ):
        answer = post_commit(shared, kernel, [header(), file("good"), line])
        assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert shared.api().repo_info(kernel, repo_type="kernel").sha == head


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"", "no header"),
        (b"not json\n", "not JSON"),
        (b"[1]\n", "must be"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        ([file("a")], "must be its header"),
        ([header("")], "must be its header"),
        (
            [header(), {"key": "file", "value": {"path": "a", "content": "?", "encoding": "base64"}}],
            "must be in Base64",
        ),
        ([header(), {"key": "file", "value": {"path": "a", "content": "abc", "encoding": "base64"}}], "not Base64"),
        ([header(), {"key": "file", "value": {"path": "a", "content": "aGk=", "encoding": "utf-8"}}], "in Base64"),
        ([header(), {"key": "file", "value": {"path": 3, "content": "aGk="}}], "must be a string"),
        ([header(), {"key": "lfsFile", "value": {"path": "a", "oid": "../../secret"}}], "by its SHA-256"),
        ([header(), {"key": "lfsFile", "value": {"path": "a", "oid": "0" * 64, "size": 4}}], "was not received"),
        ([header(), {"key": "explode", "value": {}}], "not an operation"),
        ([header(), file("a"), file("a/b")], "a file and a folder"),
        ([header("x" * 2000)], "characters"),
    ],
)
def test_commits_that_make_no_sense_are_refused(
    shared: RegistryProcess, kernel: str, lines: list[object] | bytes, words: str
) -> None:
    answer = post_commit(shared, kernel, lines)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert words in answer.json()["error"]
    assert words in answer.headers["X-Error-Message"]


def test_a_file_may_become_a_folder(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    delete = {"key": "deletedFile", "value": {"path": "a"}}
    assert post_commit(shared, kernel, [header(), file("a")]).is_success
    assert post_commit(shared, kernel, [header(), delete, file("a/b")]).is_success
    assert read_files(shared.api(), kernel, tmp_path) == {"a/b": b"x"}
