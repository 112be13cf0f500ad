"""The cache of `huggingface_hub`, filled as if a release had been downloaded, for machines that never will."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from kernel_builder.disk import explain_disk
from kernel_builder.release.contents import describe_file
from kernel_builder.release.model import Release, ReleaseFile, Repo

_HINT = "choose another place with `--cache-dir`, which loaders look for in `KERNELS_CACHE`"


def find_cache() -> Path:
    """Where loaders on this machine look."""
    return Path(os.environ.get("KERNELS_CACHE") or constants.HF_HUB_CACHE)


def write_cache(release: Release, repo: Repo, cache: Path, digest: str) -> tuple[Path, str]:
    """Put a release where `get_kernel` finds it without a network, with `version=` and with `revision="v1"` alike.

    digest: of the release, from which its commit follows. The branch is set last, so that a loader sees the release
    whole or the one before it. Gives the folder of the snapshot and the commit.
    """
    commit = hashlib.sha1(f"kernel-builder release {digest}".encode(), usedforsecurity=False).hexdigest()
    root = cache / repo_folder_name(repo_id=repo.repo_id, repo_type=str(repo.repo_type))
    snapshot = root / "snapshots" / commit
    with explain_disk(f"`{cache}`", _HINT):
        for file in release.files.values():
            blob = _store(root / "blobs", file)
            link = snapshot / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            content = Path(os.path.relpath(blob, link.parent))
            if not (link.is_symlink() and link.readlink() == content):
                link.unlink(missing_ok=True)
                link.symlink_to(content)
        ref = root / "refs" / release.branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=root, delete=False, encoding="ascii") as draft:
            draft.write(commit)
        Path(draft.name).replace(ref)
    return snapshot, commit


def _store(blobs: Path, file: ReleaseFile) -> Path:
    blob = blobs / file.sha256
    # A loader hashes nothing: what is there already is believed only after it was read.
    if blob.is_symlink() or not blob.is_file() or describe_file(file.path, blob).sha256 != file.sha256:
        blobs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=blobs, delete=False) as draft:
            if isinstance(file.source, bytes):
                draft.write(file.source)
            else:
                with file.source.open("rb") as source:
                    shutil.copyfileobj(source, draft)
        Path(draft.name).chmod(0o644)
        Path(draft.name).replace(blob)
    return blob
