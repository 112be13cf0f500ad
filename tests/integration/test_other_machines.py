"""An artifact for a Linux of another machine: its compiler from the distribution, its torch out of the index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Build

# What headers take from the newest libstdc++; on the other machine no library of torch has it by chance.
NEWER = """
#include <exception>
#include <sstream>
#include <utility>
std::string retell(const std::exception_ptr& error) {
  std::stringstream text;
  try {
    std::rethrow_exception(std::exception_ptr(error));
  } catch (const std::exception& caught) {
    text << caught.what();
  }
  return std::move(text).str();
}
"""


@pytest.mark.compile
@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-g++") is None, reason="needs the Debian package g++-aarch64-linux-gnu"
)
def test_an_artifact_for_another_machine_loads_on_old_systems(
    copy_project: Callable[[str, Path], Path], run_builder: Build, tmp_path: Path
) -> None:
    project = copy_project("relu-stable", tmp_path)
    source = next(project.rglob("relu*.cpp"))
    source.write_text(source.read_text(encoding="utf-8") + NEWER, encoding="utf-8")
    done = run_builder("build", project, "--host", "aarch64-linux", "--json")
    assert done.returncode == 0, done.stderr
    (artifact,) = json.loads(done.stdout)["artifacts"]
    assert artifact["variant"] == "torch-stable-abi210-cpu-aarch64-linux"
