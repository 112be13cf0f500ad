"""Files and listings: bytes and ranges, names and ETags, pages, and what touched a file last."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd, RepoFile, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

from kernel_builder.serve.objects import git_oid
from tests.registry.process import WRITE_TOKEN, RegistryProcess

CONTENT = bytes(range(256)) * 4
AUTHORIZED = {"Authorization": f"Bearer {WRITE_TOKEN}"}


@pytest.fixture
def filled(shared: RegistryProcess, kernel: str) -> str:
    files = {"build/a/x.so": CONTENT, "build/a/y.py": b"y = 1\n", "a b/ä%?#.txt": b"odd", "empty": b""}
    additions = [CommitOperationAdd(path, content) for path, content in files.items()]
    shared.api().create_commit(kernel, additions, commit_message="fill", repo_type="kernel")
    return kernel


def file_url(registry: RegistryProcess, kernel: str, path: str, revision: str = "main") -> str:
    return hf_hub_url(kernel, path, repo_type="kernel", revision=revision, endpoint=registry.endpoint)


def test_what_there_is_to_know_of_a_file(shared: RegistryProcess, filled: str) -> None:
    head = shared.api().repo_info(filled, repo_type="kernel").sha
    large = get_hf_file_metadata(file_url(shared, filled, "build/a/x.so"), token=WRITE_TOKEN)
    assert (large.commit_hash, large.etag, large.size) == (head, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert large.xet_file_data is None
    small = get_hf_file_metadata(file_url(shared, filled, "build/a/y.py"), token=WRITE_TOKEN)
    assert (small.commit_hash, small.etag, small.size) == (head, git_oid("blob", b"y = 1\n"), 6)


@pytest.mark.parametrize(("path", "content"), [("a b/ä%?#.txt", b"odd"), ("empty", b"")])
def test_odd_files(shared: RegistryProcess, filled: str, path: str, content: bytes, tmp_path: Path) -> None:
    found = shared.api().hf_hub_download(filled, path, repo_type="kernel", cache_dir=tmp_path)
    assert Path(found).read_bytes() == content


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-9", 206, CONTENT[:10]),
        ("bytes=1000-", 206, CONTENT[1000:]),
        ("bytes=-24", 206, CONTENT[-24:]),
        ("bytes=1023-99999", 206, CONTENT[1023:]),
        ("bytes=1024-", 416, None),
        ("lines=1-2", 400, None),
    ],
)
def test_ranges(shared: RegistryProcess, filled: str, asked: str, status: int, content: bytes | None) -> None:
    answer = httpx.get(file_url(shared, filled, "build/a/x.so"), headers={**AUTHORIZED, "Range": asked})
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content


def test_an_interrupted_download_goes_on(shared: RegistryProcess, filled: str) -> None:
    url = file_url(shared, filled, "build/a/x.so")
    etag = httpx.head(url, headers=AUTHORIZED).headers["ETag"]
    rest = httpx.get(url, headers={**AUTHORIZED, "Range": "bytes=100-", "If-Range": etag})
    assert rest.content == CONTENT[100:]
    other = httpx.get(url, headers={**AUTHORIZED, "Range": "bytes=100-", "If-Range": '"other"'})
    assert other.content == CONTENT
    assert httpx.get(url, headers={**AUTHORIZED, "If-None-Match": etag}).status_code == HTTPStatus.NOT_MODIFIED


def test_what_is_missing_is_told_by_kind(shared: RegistryProcess, filled: str) -> None:
    api = shared.api()
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(filled, "nothing", repo_type="kernel")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(filled, "build", repo_type="kernel")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(filled, "empty", repo_type="kernel", revision="nowhere")
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(filled, "empty", repo_type="kernel"))


@pytest.mark.parametrize(
    "path", ["../../../FORMAT", "%2e%2e/%2e%2e/FORMAT", "..%2f..%2fFORMAT", "build/..%5c..%5cFORMAT"]
)
def test_no_path_leads_out(shared: RegistryProcess, filled: str, path: str) -> None:
    for place in ("resolve", "tree"):
        prefix = f"/kernels/{filled}/resolve/main/" if place == "resolve" else f"/api/kernels/{filled}/tree/main/"
        request = httpx.Request("GET", shared.endpoint, headers=AUTHORIZED)
        request.url = httpx.URL(shared.endpoint).copy_with(raw_path=(prefix + path).encode())
        with httpx.Client() as client:
            answer = client.send(request)
        assert answer.is_client_error
        assert b"registry 1" not in answer.content


def test_every_way_to_name_a_revision(shared: RegistryProcess, filled: str) -> None:
    api = shared.api()
    api.create_branch(filled, branch="feature/x", repo_type="kernel")
    api.create_tag(filled, tag="1.0", repo_type="kernel")
    head = api.repo_info(filled, repo_type="kernel").sha
    assert head is not None
    names = ("main", "feature/x", "1.0", "refs/heads/feature/x", "refs/heads/main", "refs/tags/1.0", head, head[:8])
    for name in names:
        assert api.repo_info(filled, repo_type="kernel", revision=name).sha == head
        listed = api.list_repo_tree(filled, "build", repo_type="kernel", revision=name)
        assert [entry.path for entry in listed] == ["build/a"]


def test_long_listings_come_in_pages(shared: RegistryProcess, kernel: str) -> None:
    paths = [f"d/{number:04}" for number in range(1203)]
    additions = [CommitOperationAdd(path, b"") for path in paths]
    shared.api().create_commit(kernel, additions, commit_message="many", repo_type="kernel")
    listed = shared.api().list_repo_tree(kernel, recursive=True, repo_type="kernel")
    assert [entry.path for entry in listed] == [".gitattributes", "d", *paths]
    url = f"{shared.endpoint}/api/kernels/{kernel}/tree/refs%2Fheads%2Fmain/d"
    first = httpx.get(url, headers=AUTHORIZED)
    assert len(first.json()) == 1000
    second = httpx.get(first.links["next"]["url"], headers=AUTHORIZED)
    assert [entry["path"] for entry in second.json()] == paths[1000:]
    assert "next" not in second.links
    assert httpx.get(url, params={"cursor": "x"}, headers=AUTHORIZED).status_code == HTTPStatus.BAD_REQUEST


def test_what_touched_a_file_last(shared: RegistryProcess, filled: str) -> None:
    api = shared.api()
    addition = CommitOperationAdd("build/a/y.py", b"y = 2\n")
    api.create_commit(filled, [addition], commit_message="change y", repo_type="kernel")
    listed = api.list_repo_tree(filled, recursive=True, expand=True, repo_type="kernel")
    titles = {entry.path: entry.last_commit.title for entry in listed if entry.last_commit is not None}
    assert titles == {
        ".gitattributes": "initial commit",
        "a b": "fill",
        "a b/ä%?#.txt": "fill",
        "build": "change y",
        "build/a": "change y",
        "build/a/x.so": "fill",
        "build/a/y.py": "change y",
        "empty": "fill",
    }
    (found,) = api.get_paths_info(filled, ["build/a/x.so", "nothing"], expand=True, repo_type="kernel")
    assert isinstance(found, RepoFile)
    assert found.last_commit is not None
    assert found.last_commit.title == "fill"


def test_what_users_upload_does_not_run_in_browsers(shared: RegistryProcess, kernel: str) -> None:
    addition = CommitOperationAdd("index.html", b"<script>alert(1)</script>")
    shared.api().create_commit(kernel, [addition], commit_message="page", repo_type="kernel")
    headers = httpx.get(file_url(shared, kernel, "index.html"), headers=AUTHORIZED).headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


def test_errors_tell_no_more_than_they_should(shared: RegistryProcess) -> None:
    answer = httpx.get(f"{shared.endpoint}/somewhere/else", headers=AUTHORIZED)
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert "does not know GET `/somewhere/else`" in answer.json()["error"]
    with pytest.raises(HfHubHTTPError):
        shared.api().list_spaces(limit=1).__next__()  # type: ignore[attr-defined]  # it is a generator
