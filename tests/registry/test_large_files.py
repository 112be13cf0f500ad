"""Large files: within a commit as the current client sends them, and by themselves as others do."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from tests.registry.process import READ_TOKEN, WRITE_TOKEN, RegistryProcess

# The Hub's client sends files in a way that its HTTP library would rather not see.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

KERNEL = "large/relu"
MB = 1 << 20


@pytest.fixture(scope="module")
def lfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """Serve a registry that asks for large files by themselves, in parts of a megabyte, and takes up to four."""
    options = ("--lfs", "--max-file", "4", "--part", "1")
    with RegistryProcess(tmp_path_factory.mktemp("lfs") / "registry", options) as running:
        running.api().create_repo(KERNEL, repo_type="kernel")
        running.api().create_repo("large/other", repo_type="kernel")
        yield running


@pytest.fixture(autouse=True)
def _without_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def make_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - any bytes


def upload(registry: RegistryProcess, content: bytes, path: str = "a.so") -> None:
    addition = CommitOperationAdd(path, content)
    registry.api().create_commit(KERNEL, [addition], commit_message="add", repo_type="kernel")


def ask_batch(registry: RegistryProcess, content: bytes, *, kernel: str = KERNEL, **more: object) -> httpx.Response:
    objects = [{"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}]
    return httpx.post(
        f"{registry.endpoint}/kernels/{kernel}.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256", **more},
        headers={"Authorization": f"Bearer {WRITE_TOKEN}"},
    )


@pytest.mark.parametrize("size", [1, MB, MB + 1, 3 * MB])
def test_whole_and_in_parts(lfs: RegistryProcess, size: int, tmp_path: Path) -> None:
    content = make_bytes(size, seed=size)
    upload(lfs, content)
    path = lfs.api().hf_hub_download(KERNEL, "a.so", repo_type="kernel", cache_dir=tmp_path)
    assert Path(path).read_bytes() == content
    (entry,) = lfs.api().get_paths_info(KERNEL, "a.so", repo_type="kernel")
    assert entry.lfs.sha256 == hashlib.sha256(content).hexdigest()  # type: ignore[union-attr]  # it is a file, and large


def test_what_is_there_is_not_sent_again(lfs: RegistryProcess) -> None:
    content = make_bytes(1000)
    upload(lfs, content, "one.so")
    assert "actions" not in ask_batch(lfs, content).json()["objects"][0]
    head = lfs.api().repo_info(KERNEL, repo_type="kernel").sha
    upload(lfs, content, "one.so")
    assert lfs.api().repo_info(KERNEL, repo_type="kernel").sha == head


def test_knowing_a_name_is_not_having_the_content(lfs: RegistryProcess) -> None:
    content = make_bytes(500)
    upload(lfs, content, "known.so")
    (answer,) = ask_batch(lfs, content, kernel="large/other").json()["objects"]
    assert "upload" in answer["actions"]
    addition = CommitOperationAdd("stolen.so", content)
    addition._upload_mode, addition._is_uploaded, addition._should_ignore = "lfs", True, False
    with pytest.raises(BadRequestError, match="was not received"):
        lfs.api().create_commit("large/other", [addition], commit_message="take", repo_type="kernel")


def test_what_arrives_must_be_what_was_announced(lfs: RegistryProcess) -> None:
    content = make_bytes(100, seed=100)
    (answer,) = ask_batch(lfs, content).json()["objects"]
    href = answer["actions"]["upload"]["href"]
    for wrong in (b"", content[:-1], content + b"x", bytes(100)):
        assert httpx.put(href, content=wrong).is_client_error
    verify = answer["actions"]["verify"]["href"]
    named = {"oid": answer["oid"], "size": answer["size"]}
    for token, expected in ((WRITE_TOKEN, 404), (READ_TOKEN, 403)):
        assert httpx.post(verify, json=named, headers={"Authorization": f"Bearer {token}"}).status_code == expected
    assert httpx.put(href, content=content).is_success
    assert httpx.post(verify, json=named, headers={"Authorization": f"Bearer {WRITE_TOKEN}"}).is_success


def test_only_urls_that_were_signed_take_bytes(lfs: RegistryProcess) -> None:
    content = make_bytes(64, seed=64)
    href = httpx.URL(ask_batch(lfs, content).json()["objects"][0]["actions"]["upload"]["href"])
    for name, value in (("size", "65"), ("until", "9999999999"), ("number", "1"), ("signature", ""), ("until", "x")):
        answer = httpx.put(href.copy_set_param(name, value), content=content)
        assert answer.status_code in {HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST}
    other = str(href).replace(KERNEL, "large/other")
    assert httpx.put(other, content=content).status_code == HTTPStatus.FORBIDDEN
    assert httpx.put(str(href).replace("/whole/", "/part/"), content=content).status_code == HTTPStatus.FORBIDDEN
    assert httpx.put(href, content=content).is_success


def test_parts_that_are_missing_are_told(lfs: RegistryProcess) -> None:
    content = make_bytes(2 * MB + 1, seed=9)
    (answer,) = ask_batch(lfs, content, transfers=["basic", "multipart"]).json()["objects"]
    header = answer["actions"]["upload"]["header"]
    assert [key for key in header if key.isdigit()] == ["1", "2", "3"]
    assert httpx.put(header["1"], content=content[:MB]).headers["ETag"]
    assert httpx.put(header["2"], content=content[:MB] + b"x").is_client_error
    assert "part 2 of 3" in httpx.post(answer["actions"]["upload"]["href"], json={}).json()["error"]


def test_a_content_is_had_by_name(lfs: RegistryProcess) -> None:
    content = make_bytes(77, seed=77)
    upload(lfs, content, "named.so")
    (answer,) = ask_batch(lfs, content, operation="download").json()["objects"]
    assert httpx.get(answer["actions"]["download"]["href"]).content == content
    (missing,) = ask_batch(lfs, b"never sent", operation="download").json()["objects"]
    assert missing["error"]["code"] == HTTPStatus.NOT_FOUND


def test_a_large_file_within_a_commit(shared: RegistryProcess, kernel: str, tmp_path: Path) -> None:
    content = make_bytes(12 * MB)
    addition = CommitOperationAdd("weights", content)
    shared.api().create_commit(kernel, [addition], commit_message="add", repo_type="kernel")
    (entry,) = shared.api().get_paths_info(kernel, "weights", repo_type="kernel")
    assert entry.lfs.sha256 == hashlib.sha256(content).hexdigest()  # type: ignore[union-attr]  # it is a file, and large
    path = shared.api().hf_hub_download(kernel, "weights", repo_type="kernel", cache_dir=tmp_path)
    assert Path(path).read_bytes() == content


def test_files_that_are_too_large_are_refused(lfs: RegistryProcess) -> None:
    head = lfs.api().repo_info(KERNEL, repo_type="kernel").sha
    for path in ("big.so", "big.txt"):
        with pytest.raises(HfHubHTTPError) as refused:
            upload(lfs, bytes(4 * MB + 1), path)
        assert refused.value.response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert ask_batch(lfs, bytes(4 * MB + 1)).json()["objects"][0]["error"]["code"] == 413
    assert lfs.api().repo_info(KERNEL, repo_type="kernel").sha == head
