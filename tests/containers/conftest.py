from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.engine import (
    NoEngineError,
    find_obstacle,
    make_debian,
    run_docker,
    scratch_directory,
    started_engine,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kernels"
BASE = "kernel-builder-tests/debian:latest"


@dataclass(frozen=True)
class Docker:
    """An engine that has the image BASE, and the builder told to use it."""

    address: str
    base: str = BASE

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.address, "CI": "1", "KERNEL_BUILDER_BASE_IMAGE": self.base}

    def list_containers(self) -> list[str]:
        return run_docker(self.address, "ps", "--all", "--format", "{{.Names}}").stdout.split()

    def build(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words("build", *arguments),
            capture_output=True,
            text=True,
            check=False,
            env=self.environment | variables,
        )

    @staticmethod
    def words(*arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "kernel_builder", *map(str, arguments)]


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The engine; where none can be started the test is skipped, and the reason printed."""
    obstacle = find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    try:
        with scratch_directory() as directory, started_engine(directory) as address:
            run_docker(address, "import", make_debian(shared), BASE)
            yield Docker(address)
    except NoEngineError as error:
        pytest.skip(str(error))


def copy_project(name: str, place: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, place / name))
