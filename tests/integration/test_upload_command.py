"""`kernel-builder upload` as it is typed: faces, what it says, and what it never says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.release.model import Repo
from tests.cli.commands import check_document
from tests.integration.publishing import read_branch
from tests.registry.process import READ_TOKEN, WRITE_TOKEN, RegistryProcess
from tests.unit.release.samples import make_artifact

Upload = Callable[..., subprocess.CompletedProcess[str]]

DECLARATION = """\
[general]
name = "relu"
version = 1
edition = 5
license = "Apache-2.0"
backends = ["cpu"]

[general.hub]
repo-id = "acme/relu"

[torch-noarch]

[face.relu-sinks.hub]
repo-id = "acme/relu-sinks"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a face, built and tested."""
    place = tmp_path / "project"
    make_artifact(place / "build")
    make_artifact(place / "build" / "relu-sinks", name="relu-sinks")
    for name in ("relu", "relu_sinks"):
        (place / "torch-ext" / name).mkdir(parents=True)
        (place / "torch-ext" / name / "__init__.py").write_text("", encoding="utf-8")
    (place / "build.toml").write_text(DECLARATION, encoding="utf-8")
    return place


@pytest.fixture
def upload(project: Path, registry: RegistryProcess, tmp_path: Path) -> Upload:
    """Run the command on the project; keywords are environment variables."""

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        settings = {"HF_ENDPOINT": registry.endpoint, "HF_TOKEN": WRITE_TOKEN, "HF_HOME": str(tmp_path / "home")}
        return subprocess.run(
            [sys.executable, "-m", "kernel_builder", "upload", str(project), *words],
            env={**os.environ, **settings, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def read(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    check_document(document, "upload")
    return document


def test_every_kernel_goes_to_its_own_repository(upload: Upload, registry: RegistryProcess, tmp_path: Path) -> None:
    looked = read(upload("--json", "--dry-run"))
    assert [release["creates-repo"] for release in looked["releases"]] == [True, True]
    assert all(branch["receipt"] is None for release in looked["releases"] for branch in release["branches"])
    assert not list(registry.api().list_models())
    done = read(upload("--json"))
    assert [release["repo-id"] for release in done["releases"]] == ["acme/relu", "acme/relu-sinks"]
    for repo_id in ("acme/relu", "acme/relu-sinks"):
        files = read_branch(registry, "v1", tmp_path / repo_id, Repo(repo_id))
        name = json.loads(files["build/torch-cpu/metadata.json"])["name"]
        assert repo_id == f"acme/{name}"
    again = read(upload("--json"))
    receipts = [branch["receipt"] for release in again["releases"] for branch in release["branches"]]
    assert not any(receipt["changed"] for receipt in receipts)


def test_another_repository_takes_one_kernel(upload: Upload) -> None:
    named = read(upload("--repo", "other/relu", "--json", "--dry-run"))
    assert [release["kernel"] for release in named["releases"]] == ["relu"]
    face = read(upload("--repo-id", "other/sinks", "--kernel", "relu-sinks", "--json", "--dry-run"))
    assert [(release["kernel"], release["repo-id"]) for release in face["releases"]] == [("relu-sinks", "other/sinks")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repo", "../etc"], "`--repo` is not the id of a repo, got `../etc`"),
        (["--repo", "a/b/c"], "`--repo` is not the id of a repo, got `a/b/c`"),
        (["--branch", "refs/pr/1"], "`--branch` must be the name of a branch"),
        (["--branch", "a..b"], "`--branch` is not the name of a git revision"),
        (["--kernel", "gelu"], "there is no artifact of `gelu`"),
        (["--repo", "a/b", "--kernel", "relu", "--kernel", "relu-sinks"], "`--repo` takes one kernel"),
    ],
)
def test_words_that_name_nothing(upload: Upload, words: list[str], message: str) -> None:
    done = upload(*words)
    assert done.returncode in {2, 3}
    assert done.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "endpoint", ["hub.example", "ftp://hub.example", "http://", "http://[::1", "http://hub.example/?token=sesame"]
)
def test_an_endpoint_that_is_none_is_told_at_once(upload: Upload, endpoint: str) -> None:
    done = upload(HF_ENDPOINT=endpoint)
    assert done.returncode == 2
    assert done.stderr.startswith("error: `HF_ENDPOINT` is not a URL")
    assert "sesame" not in done.stderr


def test_another_branch_is_loaded_by_its_name(upload: Upload) -> None:
    words = ("--repo", "other/relu", "--branch")
    refused = upload(*words, "v2")
    assert refused.returncode == 2
    assert "error: `v2` is the branch of another version: `relu` is version 1" in refused.stderr
    assert 'get_kernel("other/relu", revision="trial")' in upload(*words, "trial").stderr
    assert 'get_kernel("other/relu", version=1)' in upload(*words, "v1").stderr


def test_another_version_must_be_built_first(upload: Upload, project: Path) -> None:
    (project / "build.toml").write_text(DECLARATION.replace("version = 1", "version = 2"), encoding="utf-8")
    done = upload()
    assert done.returncode == 2
    assert "was built as version 1, `build.toml` says 2" in done.stderr


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (READ_TOKEN, "this account may not create kernel repositories as `acme`"),
        ("hf_nobody_knows_this_one", "HTTP 401"),
        ("", "HTTP 401"),
    ],
)
def test_a_token_that_may_not_write_is_refused_in_one_sentence(upload: Upload, token: str, message: str) -> None:
    done = upload("--debug", "--verbose", "--json", HF_TOKEN=token)
    assert done.returncode == 7, done.stderr
    check_document(json.loads(done.stdout), "upload", ok=False)
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "hint: " in done.stderr
    for text in (done.stdout, done.stderr):
        assert not token or token not in text
        assert "Traceback" not in text


def test_the_token_is_never_told_not_even_in_trouble(upload: Upload, registry: RegistryProcess) -> None:
    endpoint = registry.endpoint.replace("http://", f"http://user:{WRITE_TOKEN}@")
    for done in (upload("--verbose", "--debug"), upload("--verbose", "--debug", HF_ENDPOINT=endpoint)):
        assert WRITE_TOKEN not in done.stdout + done.stderr
