from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_builder.serve.merging import diff_trees, find_conflicts, merge_trees
from kernel_builder.serve.objects import Commit, Entry, Tree, git_oid, is_large, pointer_text

NAMES = st.sampled_from(["a", "b", "a.b", "a-b", "a0", "B", "é", "build", "x.so"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.binary(max_size=4), max_size=8).map(
    lambda files: {
        path: content for path, content in files.items() if not any(f"{path}/" in f"{o}/" and o != path for o in files)
    }
)


def make_entry(path: str, content: bytes) -> Entry:
    return Entry(path, hashlib.sha256(content).hexdigest(), git_oid("blob", content), len(content))


def make_tree(files: dict[str, bytes]) -> Tree:
    return Tree(make_entry(path, content) for path, content in files.items())


def git(folder: Path, *words: str, text: bytes = b"", **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **variables}
    done = subprocess.run(["git", *words], cwd=folder, input=text, env=environment, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git, which is not installed")
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, message=st.sampled_from(["", "why\n\nand how"]))
def test_names_are_those_of_git(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    if not (tmp_path / ".git").exists():
        git(tmp_path, "init", "-q")
    git(tmp_path, "read-tree", "--empty")
    tree = make_tree(files)
    for path, content in files.items():
        stored = (
            pointer_text(hashlib.sha256(content).hexdigest(), len(content)) if is_large(path, len(content)) else content
        )
        oid = git(tmp_path, "hash-object", "-w", "--stdin", text=stored)
        assert tree.entries[path].oid == oid
        git(tmp_path, "update-index", "--add", "--cacheinfo", f"100644,{oid},{path}")
    assert git(tmp_path, "write-tree") == tree.oid
    for folder, oid in tree.folders.items():
        assert git(tmp_path, "rev-parse", f"{tree.oid}:{folder}") == oid
    person = {"NAME": "me", "EMAIL": "me@registry", "DATE": "1700000000 +0000"}
    variables = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
    commit = Commit(tree.oid, (), "me", 1700000000, "title", message)
    text = f"title\n\n{message}\n" if message else "title\n"
    assert git(tmp_path, "commit-tree", tree.oid, text=text.encode(), **variables) == commit.oid


@settings(deadline=None, derandomize=True)
@given(FILES)
def test_what_is_stored_comes_back(files: dict[str, bytes]) -> None:
    tree = make_tree(files)
    assert Tree.from_json(tree.as_json()).oid == tree.oid
    assert list(tree.walk("")) == sorted({*tree.entries, *tree.folders})
    assert {path for path in tree.walk("") if "/" not in path} == set(tree.children(""))
    for folder in tree.folders:
        assert set(tree.children(folder)) == {p for p in tree.walk("") if p.rpartition("/")[0] == folder}


@settings(deadline=None, derandomize=True)
@given(FILES, FILES, FILES)
def test_merging(start: dict[str, bytes], ours: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    old, left, right = make_tree(start), make_tree(ours), make_tree(theirs)
    assert merge_trees(old, old, right).oid == right.oid
    assert merge_trees(old, left, old).oid == left.oid
    assert find_conflicts(old, left, left) == []
    assert find_conflicts(old, left, right) == find_conflicts(old, right, left)
    if not find_conflicts(old, left, right):
        assert merge_trees(old, left, right).entries == merge_trees(old, right, left).entries
        changed = diff_trees(old, left).keys() | diff_trees(old, right).keys()
        assert diff_trees(old, merge_trees(old, left, right)).keys() == changed
