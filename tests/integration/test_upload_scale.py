"""A release as large as they come: 500 variants of 20 files."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from kernel_builder.release.intent import Destination, plan_upload
from kernel_builder.release.upload import run_upload
from tests.integration.publishing import REPO, make_release, open_hub
from tests.registry.process import RegistryProcess
from tests.unit.release.samples import make_artifact

MINORS, TOOLKITS, MACHINES = range(25), ("124", "126", "128", "130", "132"), ("x86_64", "aarch64")
ABIS = ("torch2{}-cxx11", "torch-stable-abi2{}")
FILES = 20


@pytest.mark.slow
def test_500_variants_of_20_files(registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        f"{abi.format(minor)}-cu{toolkit}-{machine}-linux"
        for abi, minor, toolkit, machine in product(ABIS, MINORS, TOOLKITS, MACHINES)
    ]
    more = {f"part_{number:02}.py": f"x = {number}\n" for number in range(FILES - 4)}
    release = make_release([make_artifact(tmp_path / "build", name, files=more) for name in names])
    assert len(release.variants) == 500
    assert len(release.files) == 500 * FILES
    hub = open_hub(registry.endpoint, monkeypatch)
    (version, _) = run_upload(hub, plan_upload(hub, release, Destination(REPO)))
    listed = registry.api().list_repo_tree(REPO.repo_id, repo_type="kernel", revision="v1", recursive=True)
    assert {entry.path for entry in listed if hasattr(entry, "size")} == set(release.files)
    events: list[object] = []
    again = open_hub(registry.endpoint, monkeypatch, events.append)
    plan = plan_upload(again, release, Destination(REPO))
    assert plan.is_empty
    assert [receipt.changed for receipt in run_upload(again, plan)] == [False, False]
    assert run_upload(again, plan)[0].commit == version.commit
    assert not events
