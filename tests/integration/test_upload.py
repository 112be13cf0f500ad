"""Publishing to a registry over HTTP, as users do to the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.artifact.model import Artifact
from kernel_builder.errors import UploadError
from kernel_builder.release.intent import Destination, plan_upload
from kernel_builder.release.model import Repo, RepoType
from kernel_builder.release.upload import run_upload
from tests.integration.publishing import REPO, make_release, open_hub, publish, read_branch
from tests.registry.process import RegistryProcess
from tests.unit.release.samples import make_artifact

CLASSIC, STABLE = "torch213-cxx11-cpu-x86_64-linux", "torch-stable-abi210-cpu-x86_64-linux"


def names_of(artifact: Artifact) -> set[str]:
    folder = artifact.path.name
    return {
        f"build/{folder}/{path.relative_to(artifact.path).as_posix()}"
        for path in artifact.path.rglob("*")
        if path.is_file()
    }


def test_the_branch_is_what_was_built_and_nothing_else(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(registry.endpoint, monkeypatch)
    artifacts = [make_artifact(tmp_path / "build", name) for name in ("torch-cpu", CLASSIC)]
    plan = plan_upload(hub, make_release(artifacts), Destination(REPO))
    assert plan.creates_repo
    version, main = publish(hub, make_release(artifacts))
    assert (version.branch, main.branch) == ("v1", "main")
    found = read_branch(registry, "v1", tmp_path)
    assert set(found) == names_of(artifacts[0]) | names_of(artifacts[1])
    assert found["build/torch-cpu/__init__.py"] == (artifacts[0].path / "__init__.py").read_bytes()
    card = read_branch(registry, "main", tmp_path)["README.md"].decode()
    assert 'get_kernel("acme/relu", version=1)' in card


def test_nothing_is_sent_twice(registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []
    hub = open_hub(registry.endpoint, monkeypatch, events.append)
    first = publish(hub, make_release([make_artifact(tmp_path / "build")]))
    events.clear()
    again = publish(hub, make_release([make_artifact(tmp_path / "build")]))
    assert [receipt.changed for receipt in again] == [False, False]
    assert [receipt.commit for receipt in again] == [receipt.commit for receipt in first]
    assert not events
    make_artifact(tmp_path / "build", files={"more.py": "x = 1\n"})
    plan = plan_upload(hub, make_release([make_artifact(tmp_path / "build")]), Destination(REPO))
    sent = [change.path for change in plan.branches[0].sent]
    assert sent == ["build/torch-cpu/metadata.json", "build/torch-cpu/more.py"]


def test_a_release_that_loses_something_is_refused(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(registry.endpoint, monkeypatch)
    both = [make_artifact(tmp_path / "a", name, capabilities=["dropout"]) for name in ("torch-cpu", "torch-cuda")]
    publish(hub, make_release(both))
    less = make_artifact(tmp_path / "b", files={"__init__.py": "def gelu(x): return x\n"})
    with pytest.raises(UploadError) as refused:
        publish(hub, make_release([less]))
    assert [problem.message for problem in refused.value.problems] == [
        "the capability `dropout` on `acme/relu@v1` is not in this release: `torch-cpu`",
        "the public name `relu` on `acme/relu@v1` is not in this release: `torch-cpu`",
        "the variant `torch-cuda` on `acme/relu@v1` is not in this release",
    ]
    later = make_artifact(tmp_path / "c", version=2, files={"__init__.py": "def gelu(x): return x\n"})
    publish(hub, make_release([later]))
    assert set(read_branch(registry, "v2", tmp_path)) == names_of(later)
    assert set(read_branch(registry, "v1", tmp_path)) == names_of(both[0]) | names_of(both[1])


def test_variants_of_other_machines_stay_when_asked_for(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(registry.endpoint, monkeypatch)
    here, there = make_artifact(tmp_path / "a"), make_artifact(tmp_path / "b", "torch-cuda")
    publish(hub, make_release([here]))
    publish(hub, make_release([there]), Destination(REPO, keep=True))
    assert set(read_branch(registry, "v1", tmp_path)) == names_of(here) | names_of(there)
    card = read_branch(registry, "main", tmp_path)["README.md"].decode()
    assert "`torch-cpu`" in card
    assert "`torch-cuda`" in card


def test_a_variant_that_another_one_serves_goes(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(registry.endpoint, monkeypatch)
    publish(hub, make_release([make_artifact(tmp_path / "a", CLASSIC)]))
    stable = make_artifact(tmp_path / "b", STABLE)
    publish(hub, make_release([stable]))
    assert set(read_branch(registry, "v1", tmp_path)) == names_of(stable)


def test_a_branch_that_moved_is_not_overwritten(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(registry.endpoint, monkeypatch)
    publish(hub, make_release([make_artifact(tmp_path / "a")]))
    changed = make_release([make_artifact(tmp_path / "b", files={"more.py": "x = 1\n"})])
    plan = plan_upload(hub, changed, Destination(REPO))
    theirs = make_artifact(tmp_path / "c", "torch-cuda")
    publish(hub, make_release([theirs]), Destination(REPO, keep=True))
    with pytest.raises(UploadError, match="changed by somebody else"):
        run_upload(hub, plan)
    assert names_of(theirs) <= set(read_branch(registry, "v1", tmp_path))


def test_a_proposal_changes_no_branch(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(registry.endpoint, monkeypatch)
    publish(hub, make_release([make_artifact(tmp_path / "a")]))
    before = read_branch(registry, "v1", tmp_path / "before")
    changed = make_release([make_artifact(tmp_path / "b", files={"more.py": "x = 1\n"})])
    receipts = publish(hub, changed, Destination(REPO, create_pr=True))
    assert all(receipt.pull_request for receipt in receipts)
    assert read_branch(registry, "v1", tmp_path / "after") == before


def test_a_model_repository_serves_loaders_that_know_no_versions(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repo("acme/relu", RepoType.MODEL)
    artifact = make_artifact(tmp_path / "build")
    publish(open_hub(registry.endpoint, monkeypatch), make_release([artifact]), Destination(repo))
    main = read_branch(registry, "main", tmp_path, repo)
    assert names_of(artifact) <= set(main)
    assert "\n- kernel\n" in main["README.md"].decode()
    assert "kernel" in (registry.api().model_info("acme/relu").tags or ())


def test_a_branch_that_was_made_from_a_full_main_is_held_to_its_contract(
    registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repositories that moved over from models have the same commit on both branches."""
    hub = open_hub(registry.endpoint, monkeypatch)
    old = make_artifact(tmp_path / "a", "torch-cuda")
    publish(hub, make_release([old]), Destination(REPO, branch="main"))
    registry.api().create_branch(REPO.repo_id, branch="v1", repo_type="kernel")
    with pytest.raises(UploadError, match="variant `torch-cuda`"):
        publish(hub, make_release([make_artifact(tmp_path / "b")]))
    assert names_of(old) <= set(read_branch(registry, "v1", tmp_path))
    publish(hub, make_release([make_artifact(tmp_path / "c", version=2)]))
    assert set(read_branch(registry, "v2", tmp_path)) == names_of(make_artifact(tmp_path / "c", version=2))
