"""The registry, asked by the Hub's own client over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.process import RegistryProcess

KERNEL = "someone/relu"


@pytest.mark.parametrize("kind", ["kernel", "model"])
def test_what_is_uploaded_comes_back(registry: RegistryProcess, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "build" / "torch-cpu").mkdir(parents=True)
    contents = {
        "README.md": b"---\ntags: [kernel]\n---\n",
        "build/torch-cpu/__init__.py": b"",
        "build/torch-cpu/a.so": b"\x7fELF",
    }
    for path, content in contents.items():
        (folder / path).write_bytes(content)
    api = registry.api()
    assert api.create_repo(KERNEL, repo_type=kind) == api.create_repo(KERNEL, repo_type=kind, exist_ok=True)
    api.create_branch(KERNEL, branch="v1", repo_type=kind)
    done = api.upload_folder(repo_id=KERNEL, folder_path=folder, repo_type=kind, revision="v1")
    again = api.upload_folder(repo_id=KERNEL, folder_path=folder, repo_type=kind, revision="v1")
    assert again.oid == done.oid
    refs = api.list_repo_refs(KERNEL, repo_type=kind)
    assert {branch.name: branch.target_commit for branch in refs.branches}["v1"] == done.oid
    snapshot = Path(api.snapshot_download(KERNEL, repo_type=kind, revision="v1", cache_dir=tmp_path / "cache"))
    found = {path.relative_to(snapshot).as_posix(): path.read_bytes() for path in snapshot.rglob("*") if path.is_file()}
    assert found.pop(".gitattributes")
    assert found == contents
