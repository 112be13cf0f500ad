"""`serve --check` and `serve --sweep`: a registry that is looked after while nobody is serving it."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest
from huggingface_hub import CommitOperationAdd

from tests.cli.commands import check_document, load_document, run_builder
from tests.registry.process import RegistryProcess


@pytest.fixture
def stopped(registry: RegistryProcess) -> RegistryProcess:
    """A registry with one kernel that stays and one that was deleted, which nobody serves."""
    api = registry.api()
    for name in ("keeps/relu", "goes/relu"):
        api.create_repo(name, repo_type="kernel")
        addition = CommitOperationAdd("file", name.encode())
        api.create_commit(name, [addition], commit_message="add", repo_type="kernel")
    api.move_repo("keeps/relu", "keeps/gelu", repo_type="kernel")
    api.delete_repo("goes/relu", repo_type="kernel")
    registry.stop()
    return registry


def find_content(root: Path, content: bytes) -> Path:
    (found,) = (path for path in (root / "blobs").glob("*/*") if path.read_bytes() == content)
    return found


def test_what_nothing_names_is_swept(stopped: RegistryProcess) -> None:
    for option, left in (("--check", 3), ("--sweep", 2), ("--check", 2)):
        before = len(list((stopped.root / "blobs").glob("*/*")))
        completed = run_builder(["serve", "--root", stopped.root, option, "--json"])
        assert completed.returncode == 0, completed.stderr
        document = load_document(completed)
        check_document(document, "serve")
        content = document["content"]
        assert (content["repositories"], content["commits"], content["contents"]) == (1, 2, 2)
        assert content["unused"] == before - 2
        assert len(list((stopped.root / "blobs").glob("*/*"))) == left
    stopped.start()
    assert stopped.api().file_exists("keeps/gelu", "file", repo_type="kernel")


@pytest.mark.parametrize("place", ["blobs", "commits", "trees", "refs/heads", "settings.json"])
def test_damage_is_told_and_nothing_is_swept(stopped: RegistryProcess, place: str) -> None:
    repository = stopped.root / "repositories" / "kernels" / "keeps" / "gelu"
    if place == "blobs":
        find_content(stopped.root, b"keeps/relu").write_bytes(b"keeps/ReLU")
    elif place == "settings.json":
        (repository / place).write_bytes(b"{")
    else:
        for path in (repository / place).iterdir():
            path.write_bytes(path.read_bytes()[:-20])
    completed = run_builder(["serve", "--root", stopped.root, "--sweep"])
    assert completed.returncode == 6
    assert "damaged" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert find_content(stopped.root, b"goes/relu").exists()


def test_it_is_not_checked_while_it_is_served(registry: RegistryProcess, tmp_path: Path) -> None:
    for root, words in ((registry.root, "another process is serving"), (tmp_path / "none", "is not a registry")):
        completed = run_builder(["serve", "--root", root, "--check"])
        assert completed.returncode == 2
        assert words in completed.stderr


def test_a_copy_that_takes_branches_first_is_good(registry: RegistryProcess, tmp_path: Path) -> None:
    """As the documentation says it, while somebody publishes."""
    api = registry.api()
    api.create_repo("copied/relu", repo_type="kernel")
    done = Event()

    def publish() -> None:
        for number in count():
            if done.is_set():
                break
            addition = CommitOperationAdd("file", f"{number}".encode())
            api.create_commit("copied/relu", [addition], commit_message=f"{number}", repo_type="kernel")

    publisher = Thread(target=publish)
    publisher.start()
    try:
        for number in range(3):
            copy = tmp_path / f"copy-{number}"
            for folder in (registry.root / "repositories").glob("*/*/*/refs"):
                shutil.copytree(folder, copy / folder.relative_to(registry.root))
            left_out = shutil.ignore_patterns("refs", "incoming")
            shutil.copytree(registry.root, copy, ignore=left_out, dirs_exist_ok=True)
            completed = run_builder(["serve", "--root", copy, "--check"])
            assert completed.returncode == 0, completed.stderr
    finally:
        done.set()
        publisher.join()
    with RegistryProcess(tmp_path / "copy-2") as restored:
        assert restored.api().repo_info("copied/relu", repo_type="kernel").sha
