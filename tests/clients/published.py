"""The two kernels as `kernel-builder upload` puts them on a registry, and fresh processes that use it as their Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.registry.process import READ_TOKEN, ROOT, WRITE_TOKEN, RegistryProcess

SCRIPTS = Path(__file__).parent / "scripts"
FLASH, SINKS = "acme/flash-attn-kernel", "acme/attn-sinks"
KERNELS = {FLASH: "flash-attn-kernel", SINKS: "attn-sinks"}
TAG = "v2.1.0"
"""What the seeds pin a kernel to; a tag of ours on the branch `v1`."""

ELSEWHERE = "acme/elsewhere"
"""A kernel that was built for other machines alone."""

OPTIONS = ("--trust", "acme")

_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Published:
    """A registry with both kernels, the home directory that its users share, and where the branches `v1` are."""

    registry: RegistryProcess
    home: Path
    commits: dict[str, str]

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program as a user of the registry, with an environment that holds nothing else of ours."""
        environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HF_ENDPOINT": self.registry.endpoint,
            "HF_TOKEN": READ_TOKEN,
            "HF_HOME": str(self.home / "huggingface"),
            "HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **variables,
        }
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=self.home)

    def answers(self, script: str, *arguments: str, **variables: str) -> dict[str, Any]:
        """Run one of our scripts; give the JSON document that is the last line it prints."""
        done = self.run(sys.executable, str(SCRIPTS / script), *arguments, **variables)
        assert done.returncode == 0, done.stderr
        answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answers


def publish_both(registry: RegistryProcess, artifacts: Path) -> dict[str, str]:
    """Upload both kernels from the directory of artifacts, and set the tag; give the commits of the branches `v1`."""
    commits = {}
    environment = {**os.environ, "HF_ENDPOINT": registry.endpoint, "HF_TOKEN": WRITE_TOKEN}
    for repository, kernel in KERNELS.items():
        # The tests that run here are what a recorded run would be of.
        words = ("upload", str(ROOT), "--repo", repository, "--kernel", kernel, "--output", str(artifacts))
        done = subprocess.run(
            [sys.executable, "-m", "kernel_builder", *words, "--allow-untested", "--quiet"],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        api = registry.api()
        api.create_tag(repository, tag=TAG, revision="v1", repo_type="kernel")
        branches = api.list_repo_refs(repository, repo_type="kernel").branches
        commits[repository] = {branch.name: branch.target_commit for branch in branches}["v1"]
    _publish_elsewhere(registry, next(artifacts.glob("torch*/metadata.json")))
    return commits


def _publish_elsewhere(registry: RegistryProcess, metadata: Path) -> None:
    api = registry.api()
    api.create_repo(ELSEWHERE, repo_type="kernel")
    api.create_branch(ELSEWHERE, branch="v1", repo_type="kernel")
    for name, content in (("metadata.json", metadata.read_bytes()), ("__init__.py", b"")):
        path = f"build/torch210-cxx11-cu128-x86_64-linux/{name}"
        api.upload_file(
            path_or_fileobj=content, path_in_repo=path, repo_id=ELSEWHERE, repo_type="kernel", revision="v1"
        )
