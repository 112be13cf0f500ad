"""Publishing through a network and to a server that fail: a branch is the old release or the new one, never between."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.hf_api import RepoFile

from kernel_builder.release.intent import Destination
from kernel_builder.release.model import Release
from tests.integration.faulty_proxy import Fault, FaultyProxy
from tests.integration.publishing import REPO, make_release, open_hub, publish
from tests.registry.process import WRITE_TOKEN, RegistryProcess
from tests.unit.release.samples import make_artifact

RUNS, KILLS = 200, 8
PUBLISH = """\
import sys
from pathlib import Path
from kernel_builder.artifact.load import find_artifacts
from kernel_builder.release.contents import collect_release
from kernel_builder.release.hub import Hub
from kernel_builder.release.intent import Destination, plan_upload
from kernel_builder.release.model import Repo
from kernel_builder.release.upload import run_upload

hub, release = Hub(sys.argv[2]), collect_release(find_artifacts(Path(sys.argv[1])))
print("begins", flush=True)
run_upload(hub, plan_upload(hub, release, Destination(Repo("acme/relu"))))
"""
WITHOUT_KILLS = tuple(fault for fault in Fault if fault is not Fault.KILL)


@pytest.fixture
def releases(tmp_path: Path) -> tuple[Release, Release]:
    """Two releases of the same contract, each with what the other has not."""
    return (
        make_release([make_artifact(tmp_path / "a", files={"a.py": "x = 1\n", "weights.bin": b"\0a" * 3000})]),
        make_release([make_artifact(tmp_path / "b", files={"b.py": "x = 2\n", "weights.bin": b"\0b" * 3000})]),
    )


def list_branch(registry: RegistryProcess, branch: str = "v1") -> dict[str, str]:
    files = registry.api().list_repo_tree(REPO.repo_id, repo_type="kernel", revision=branch, recursive=True)
    return {
        file.path: file.lfs.sha256 if file.lfs is not None else file.blob_id
        for file in files
        if isinstance(file, RepoFile)
    }


def describe(release: Release) -> dict[str, str]:
    return {path: file.sha256 if path.endswith(".bin") else file.git_oid for path, file in release.files.items()}


def count_commits(registry: RegistryProcess) -> int:
    return len(registry.api().list_repo_commits(REPO.repo_id, repo_type="kernel", revision="v1"))


@pytest.mark.slow
def test_a_release_is_published_once_and_whole_whatever_happens_to_requests(
    registry: RegistryProcess, releases: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(open_hub(registry.endpoint, monkeypatch), releases[1])
    commits = count_commits(registry)
    suffered = set()
    for seed in range(RUNS):
        release = releases[seed % 2]
        with FaultyProxy(registry, seed, faults=WITHOUT_KILLS) as proxy:
            receipts = publish(open_hub(proxy.endpoint, monkeypatch), release)
        suffered |= {incident.fault for incident in proxy.incidents}
        assert receipts[0].changed, proxy.incidents
        assert list_branch(registry) == describe(release), proxy.incidents
        commits += 1
        assert count_commits(registry) == commits, proxy.incidents
    assert suffered == set(WITHOUT_KILLS)


@pytest.mark.slow
def test_a_release_survives_the_death_of_the_server(
    registry: RegistryProcess, releases: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(KILLS):
        release = releases[seed % 2]
        with FaultyProxy(registry, seed, rate=0.15, most=1, faults=[Fault.KILL]) as proxy:
            publish(open_hub(proxy.endpoint, monkeypatch), release)
        assert list_branch(registry) == describe(release), proxy.incidents


def test_a_hub_too_busy_to_say_how_large_files_are_sent_is_asked_again(
    registry: RegistryProcess, releases: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)  # as in a process that has not asked yet
    faults = [Fault.BUSY, Fault.AWAY]
    with FaultyProxy(registry, 1, rate=1, most=3, faults=faults, only="xet-write-token") as proxy:
        publish(open_hub(proxy.endpoint, monkeypatch), releases[0])
    assert {incident.fault for incident in proxy.incidents} == set(faults)
    assert list_branch(registry) == describe(releases[0])


def test_a_proposal_whose_answer_was_lost_is_made_once(
    registry: RegistryProcess, releases: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(open_hub(registry.endpoint, monkeypatch), releases[0])
    for seed in range(3):
        before = len(list_proposals(registry))
        with FaultyProxy(registry, seed, rate=0.5, faults=[Fault.LOST_RESPONSE, Fault.MASKED]) as proxy:
            receipts = publish(open_hub(proxy.endpoint, monkeypatch), releases[1], Destination(REPO, create_pr=True))
        made = len([receipt for receipt in receipts if receipt.changed])
        assert len(list_proposals(registry)) == before + made, proxy.incidents
    assert list_branch(registry) == describe(releases[0])


def list_proposals(registry: RegistryProcess) -> list[str]:
    refs = registry.api().list_repo_refs(REPO.repo_id, repo_type="kernel", include_pull_requests=True)
    return [ref.ref for ref in refs.pull_requests or ()]


@pytest.mark.slow
def test_a_publisher_that_is_killed_may_begin_again(
    registry: RegistryProcess, tmp_path: Path, releases: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it talks to a slow server, at whatever point; then the same again, to the end."""
    publish(open_hub(registry.endpoint, monkeypatch), releases[1])
    for seed in range(5):
        release, other = releases[seed % 2], releases[1 - seed % 2]
        with FaultyProxy(registry, seed, rate=1, most=1 << 30, faults=[Fault.DELAY]) as proxy:
            killed = subprocess.Popen(
                [sys.executable, "-c", PUBLISH, str(tmp_path / "ab"[seed % 2]), proxy.endpoint],
                env={**os.environ, "HF_TOKEN": WRITE_TOKEN},
                stdout=subprocess.PIPE,
            )
            assert killed.stdout is not None
            assert killed.stdout.readline() == b"begins\n"
            time.sleep(random.Random(seed).uniform(0, 0.6))  # noqa: S311 - a test's dice
            killed.kill()
            killed.communicate()
        assert list_branch(registry) in (describe(release), describe(other))
        publish(open_hub(registry.endpoint, monkeypatch), release)
        assert list_branch(registry) == describe(release)
