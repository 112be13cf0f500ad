from __future__ import annotations

import string

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.names import (
    RepoId,
    RepoType,
    is_repository_name,
    parse_file_path,
    parse_folder_path,
    parse_ref_name,
)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a--b",
        "a..b",
        "x.git",
        "x.GIT",
        "é",
        "a b",
        "a" * 97,
        "a\n",
        "%2e",
    ],
)
def test_names_that_no_repository_has(name: str) -> None:
    assert not is_repository_name(name)
    for namespace, own in ((name, "relu"), ("org", name)):
        with pytest.raises(RequestError, match="cannot name a repository"):
            RepoId.parse(RepoType.KERNEL, namespace, own)


@settings(deadline=None, derandomize=True)
@given(st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12))
def test_what_we_take_the_hubs_client_takes(name: str) -> None:
    """It sends nothing else, and whatever it takes it may send, but for names that end in `.git` in capitals."""
    try:
        validate_repo_id(f"org/{name}")
        theirs = True
    except HFValidationError:
        theirs = False
    assert is_repository_name(name) <= theirs
    if name[0] not in "-." and name[-1] not in "-." and not name.lower().endswith(".git"):
        assert is_repository_name(name) == theirs


@pytest.mark.parametrize("namespace", ["api", "API", "kernels", "resolve"])
def test_words_of_urls_own_nothing(namespace: str) -> None:
    with pytest.raises(RequestError, match="own URLs"):
        RepoId.parse(RepoType.MODEL, namespace, "relu")


def test_spelling_does_not_make_another_repository() -> None:
    assert RepoId.parse(RepoType.MODEL, "Org", "Relu").key == RepoId.parse(RepoType.MODEL, "org", "RELU").key


@settings(deadline=None, derandomize=True)
@given(st.text(st.characters(codec=None), max_size=40))
def test_a_path_that_is_taken_stays_where_it_is(path: str) -> None:
    try:
        taken = parse_file_path(path)
    except RequestError:
        return
    parts = taken.split("/")
    assert taken == path
    assert not {"", ".", "..", ".git"} & {part.lower() for part in parts}
    assert all(len(part.encode()) <= 255 and part.isprintable() for part in parts)


@pytest.mark.parametrize(
    "path", ["a", "build/torch213-cxx11-cpu-x86_64-linux/_relu_cpu_1.abi3.so", "häuser/日本.py", "..a"]
)
def test_ordinary_paths_are_taken(path: str) -> None:
    assert parse_file_path(path) == path
    assert parse_folder_path(f"{path}/") == path


def test_the_root_is_a_folder() -> None:
    assert parse_folder_path("") == parse_folder_path("/") == ""


@pytest.mark.parametrize("name", ["main", "v1", "v1.0", "feature/x", "user@host", "1", "a" * 80])
def test_names_of_branches(name: str) -> None:
    assert parse_ref_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "a..b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.lock",
        "a b",
        "a~1",
        "a:b",
        "refs/heads/x",
        "a\n",
        "a" * 81,
        "é",
        "0123456789" * 4,
        None,
        3,
        "@{0}",
        "a.",
    ],
)
def test_names_that_no_branch_has(name: object) -> None:
    with pytest.raises(RequestError, match="cannot name a branch"):
        parse_ref_name(name)
