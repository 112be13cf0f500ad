"""What the tests of publishing share: a hub that does not wait, and releases of small artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kernel_builder.artifact.model import Artifact
from kernel_builder.progress import Listener, ignore_progress
from kernel_builder.release.contents import collect_release
from kernel_builder.release.hub import Hub
from kernel_builder.release.intent import Destination, plan_upload
from kernel_builder.release.model import Evidence, Release, Repo
from kernel_builder.release.upload import BranchReceipt, run_upload
from tests.registry.process import WRITE_TOKEN, RegistryProcess

REPO = Repo("acme/relu")


def open_hub(endpoint: str, monkeypatch: pytest.MonkeyPatch, listener: Listener = ignore_progress) -> Hub:
    """A hub that tries again at once."""
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    return Hub(endpoint, sleep=lambda _seconds: None, listener=listener)


def make_release(artifacts: Sequence[Artifact]) -> Release:
    """A release that went through the gate."""
    release = collect_release(artifacts)
    evidence = {variant: Evidence("passed", "3 passed") for variant in release.variants}
    return Release(release.name, release.version, release.artifacts, release.holdings, release.files, evidence)


def publish(hub: Hub, release: Release, destination: Destination | None = None) -> tuple[BranchReceipt, ...]:
    """Plan and carry out."""
    return run_upload(hub, plan_upload(hub, release, destination or Destination(REPO)))


def read_branch(registry: RegistryProcess, branch: str, place: Path, repo: Repo = REPO) -> dict[str, bytes]:
    """Everything on a branch, through the Hub's own client and a fresh cache."""
    folder = Path(
        registry.api().snapshot_download(
            repo.repo_id, repo_type=str(repo.repo_type), revision=branch, cache_dir=place / f"cache-{branch}"
        )
    )
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
