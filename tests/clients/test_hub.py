"""The built kernels on a Hub: the clients as a user's fresh process has them, against a registry of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.registry.process import READ_TOKEN, RegistryProcess

TRUSTED, OTHER, OTHER_FLASH = "trusted/flash-attn-kernel", "somebody/attn-sinks", "somebody/flash-attn-kernel"

SHAPE = "(1, 3, 2, 8)"
COMMIT_LENGTH = 40

Ask = Callable[..., dict[str, str]]


def publish(registry: RegistryProcess, name: str, folder: Path) -> None:
    """Put the torch artifacts of a folder on the branch of version 1."""
    api = registry.api()
    api.create_repo(name, repo_type="kernel")
    api.create_branch(name, branch="v1", repo_type="kernel")
    api.upload_folder(
        repo_id=name,
        repo_type="kernel",
        revision="v1",
        folder_path=folder,
        path_in_repo="build",
        allow_patterns="torch*/**",
        ignore_patterns="**/__pycache__/**",
    )


@pytest.fixture(scope="module")
def ask(flash_repository: Path, sinks_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Run questions, named Python expressions, in a fresh process; give each one's value or error as text."""
    flash = flash_repository / "build"
    home = tmp_path_factory.mktemp("home")
    with RegistryProcess(tmp_path_factory.mktemp("registry") / "root", ("--trust", "trusted")) as registry:
        for name, folder in {TRUSTED: flash, OTHER: sinks_repository, OTHER_FLASH: flash}.items():
            publish(registry, name, folder)

        def run(questions: dict[str, str], **variables: str) -> dict[str, str]:
            kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
            environment = {
                **{name: os.environ[name] for name in kept if name in os.environ},
                "HF_ENDPOINT": registry.endpoint,
                "HF_TOKEN": READ_TOKEN,
                "HF_HOME": str(home),
                "HOME": str(home),
                **variables,
            }
            done = subprocess.run(
                [sys.executable, Path(__file__).with_name("ask_clients.py"), json.dumps(questions)],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            answers: dict[str, str] = json.loads(done.stdout)
            return answers

        yield run
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def online(ask: Ask) -> dict[str, str]:
    """What the clients answer with an empty cache and a Hub; the cache is filled afterwards."""
    return ask(
        {
            "variants": f"get_kernel_variants({TRUSTED!r}, version=1)",
            "has": f"has_kernel({TRUSTED!r}, version=1)",
            "trusted": f"attend(get_kernel({TRUSTED!r}, version=1))",
            "revision": f"attend(get_kernel({TRUSTED!r}, revision='v1'))",
            "installed": f"install_kernel({TRUSTED!r}, version=1)",
            "no such version": f"get_kernel({TRUSTED!r}, version=2)",
            "untrusted": f"get_kernel({OTHER!r}, version=1)",
            "allowed": f"attend(get_kernel({OTHER!r}, version=1, trust_remote_code=[{OTHER!r}]))",
            "model": f"logits({TRUSTED!r})",
            "allowed model": f"logits({OTHER!r}, allow_all_kernels=True)",
            "switched model": f"logits_after_switch({OTHER_FLASH!r}, allow_all_kernels=True)",
            "in turns": f"logits_in_turns({OTHER_FLASH!r}, {TRUSTED!r}, allow_all_kernels=True)",
            "sinks in turns": f"logits_in_turns({OTHER!r}, {TRUSTED!r}, allow_all_kernels=True)",
            "untrusted model": f"logits({OTHER + '@v1'!r})",
        }
    )


def test_a_kernel_of_a_trusted_publisher_loads(online: dict[str, str], flash_repository: Path) -> None:
    names = {path.parent.name for path in (flash_repository / "build").glob("torch*/metadata.json")}
    assert online["variants"].count("VariantAccepted(") == len(names)
    assert online["has"] == "True"
    assert online["trusted"] == online["revision"] == SHAPE
    assert Path(online["installed"]).name in names
    assert online["model"] == "finite"
    assert online["no such version"] == "ValueError: Version 2 not found, available versions: 1"


def test_any_other_publisher_must_be_allowed(online: dict[str, str]) -> None:
    refusal = f"ValueError: Kernel repository '{OTHER}' is not from a trusted publisher."
    assert online["untrusted"].startswith(refusal)
    assert online["untrusted model"].startswith(refusal)
    assert online["allowed"] == SHAPE
    assert online["allowed model"] == online["switched model"] == "finite"


def test_the_permission_is_forgotten_when_two_kernels_take_turns(online: dict[str, str]) -> None:
    """Every layer fetches its functions again, without it. The sinks kernel's function is bound for good."""
    assert online["in turns"].startswith(
        f"ValueError: Kernel repository '{OTHER_FLASH}' is not from a trusted publisher."
    )
    assert online["sinks in turns"] == "finite"


@pytest.mark.usefixtures("online")
def test_offline_needs_the_way_to_the_cache(ask: Ask, online: dict[str, str]) -> None:
    """A cached kernel is not found offline, because its repository holds files that were never needed."""
    questions = {"kernel": f"attend(get_kernel({TRUSTED!r}, version=1))", "model": f"logits({TRUSTED!r})"}
    lost = ask(questions, HF_HUB_OFFLINE="1")
    assert lost["kernel"].startswith(f"FileNotFoundError: Cannot find a local snapshot for {TRUSTED}")
    assert "Cannot find a local snapshot" in lost["model"]
    snapshot = Path(online["installed"]).parents[1]
    found = ask(questions, HF_HUB_OFFLINE="1", LOCAL_KERNELS=f"{TRUSTED}={snapshot}")
    assert found == {"kernel": SHAPE, "model": "finite"}


@pytest.mark.usefixtures("online")
def test_offline_finds_a_repository_that_was_fetched_whole(ask: Ask) -> None:
    fetch = {"whole": f"snapshot_download({TRUSTED!r}, repo_type='kernel', revision='v1')"}
    snapshot = Path(ask(fetch)["whole"])
    assert (snapshot / ".gitattributes").is_file()
    assert len(snapshot.name) == COMMIT_LENGTH
    questions = {"kernel": f"attend(get_kernel({TRUSTED!r}, version=1))", "model": f"logits({TRUSTED!r})"}
    assert ask(questions, HF_HUB_OFFLINE="1") == {"kernel": SHAPE, "model": "finite"}


def test_without_telemetry_no_request_leaves(ask: Ask, flash_repository: Path) -> None:
    """The variable makes a header that the HTTP client refuses; LOCAL_KERNELS sends no request at all."""
    questions = {"kernel": f"attend(get_kernel({TRUSTED!r}, version=1))"}
    silent = {"HF_HUB_DISABLE_TELEMETRY": "1"}
    assert "could not verify publisher trust status" in ask(questions, **silent)["kernel"].lower()
    assert ask(questions, **silent, LOCAL_KERNELS=f"{TRUSTED}={flash_repository}") == {"kernel": SHAPE}
