"""`kernel-builder sdk`, as people and programs use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.cli.commands import check_document, load_document, run_builder
from tests.sdk.loopback_index import LoopbackIndex, serve_index
from tests.sdk.wheels import WheelRecipe, make_wheel

Run = Callable[..., "CompletedProcess[str]"]
FETCH = ("fetch", "2.11", "--host", "x86_64-linux")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackIndex]:
    wheels = tmp_path_factory.mktemp("wheels")
    make_wheel(WheelRecipe(), wheels)
    with serve_index(wheels) as served:
        yield served


@pytest.fixture
def run(index: LoopbackIndex, tmp_path: Path) -> Run:
    environment = {
        "KERNEL_BUILDER_CACHE": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index.url,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "UV_NO_CONFIG": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return lambda *arguments, **env: run_builder(["sdk", *arguments], env={**environment, **env}, cwd=tmp_path)


def test_fetch_list_and_prune(run: Run, tmp_path: Path) -> None:
    document = load_document(run(*FETCH, "--dry-run", "--json"))
    check_document(document, "sdk fetch")
    assert document["slices"][0]["cached"] is False
    assert not list(tmp_path.rglob("slice.json"))

    document = load_document(run(*FETCH, "--json"))
    check_document(document, "sdk fetch")
    assert document["received"] > document["slices"][0]["received"] > 0
    assert document["requests"] > 1
    assert Path(document["slices"][0]["root"], "torch/include").is_dir()

    document = load_document(run(*FETCH, "--offline", "--json"))
    assert (document["slices"][0]["cached"], document["requests"]) == (True, 0)

    document = load_document(run("list", "--json"))
    check_document(document, "sdk list")
    assert [entry["version"] for entry in document["slices"]] == ["2.11.0+cu130"]

    document = load_document(run("prune", "2.11", "--dry-run", "--json"))
    check_document(document, "sdk prune")
    assert len(document["removed"]) == 1
    assert list(tmp_path.rglob("slice.json"))
    document = load_document(run("prune", "2.11", "--json"))
    check_document(document, "sdk prune")
    assert not list(tmp_path.rglob("slice.json"))


def test_a_compiler_that_is_installed_is_not_fetched(run: Run, tmp_path: Path) -> None:
    wanted = ("fetch", "--cuda", "13.5", "--library", "curand", "--compiler", "--dry-run", "--json")
    document = load_document(run(*wanted))
    check_document(document, "sdk fetch")
    assert [(row["package"], row["cached"]) for row in document["slices"]] == [("curand", False), ("nvcc", False)]

    nvcc = tmp_path / "installed/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.5, V13.5.1'\n", encoding="utf-8")
    nvcc.chmod(0o755)
    document = load_document(run(*wanted, CUDA_HOME=str(tmp_path / "installed")))
    assert [(row["package"], row["cached"]) for row in document["slices"]] == [("curand", False), ("nvcc", True)]


def test_people_read_sentences(run: Run) -> None:
    fetched = run(*FETCH)
    assert fetched.stdout == "torch 2.11.0+cu130 for x86_64-linux: fetched\n"
    assert " MB in " in fetched.stderr
    assert run(*FETCH).stdout == "torch 2.11.0+cu130 for x86_64-linux: in the cache\n"
    assert "2.11.0+cu130" in run("list").stdout
    assert run("prune").stdout == "there is nothing to remove\n"
    assert run("prune", "--older-than", "1").stdout == "there is nothing to remove\n"
    assert run("prune", "--older-than", "0").stdout.startswith("removed `")


def test_a_lock_file_is_written_where_it_is_wanted(run: Run, tmp_path: Path) -> None:
    assert run(*FETCH, "--lock", tmp_path / "project/sdk.lock").returncode == 0
    text = (tmp_path / "project/sdk.lock").read_text(encoding="utf-8")
    assert "torch-2.11.0" in text
    assert run(*FETCH, KERNEL_BUILDER_LOCK="other.lock").returncode == 0
    assert (tmp_path / "other.lock").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fetch"], 2, "nothing to fetch"),
        (["fetch", "banana"], 2, "does not begin with a version"),
        (["fetch", "2.11", "--host", "amiga"], 2, "is not a host platform"),
        (["fetch", "2.11", "--toolkit", "13.0"], 2, "`cpu` has no toolkit with a version"),
        (["fetch", "2.11", "--backend", "tpu"], 2, "`tpu` is not one of"),
        (["fetch", "9.9"], 4, "there is no torch 9.9 on the index"),
        (["fetch", "2.11", "--host", "aarch64-darwin"], 4, "no wheel of torch 2.11 serves"),
        (["fetch", "2.11", "--offline"], 4, "nothing is fetched offline"),
        (["fetch", "--cuda", "13.0"], 4, "the index has no `cuda-toolkit` 13.0"),
        (["fetch", "2.11", "--compiler"], 2, "`--compiler` is that of a CUDA"),
    ],
)
def test_refusals(run: Run, arguments: list[str], code: int, message: str) -> None:
    completed = run(*arguments)
    assert completed.returncode == code
    assert message in completed.stderr
    assert "hint: " in completed.stderr
    assert "Traceback" not in completed.stderr


def test_an_index_that_is_not_there(run: Run) -> None:
    completed = run(*FETCH, "--json", PIP_INDEX_URL="http://anna:secret@127.0.0.1:1/s", PIP_RETRIES="0")
    assert completed.returncode == 9
    check_document(load_document(completed), "sdk fetch", ok=False)
    assert "secret" not in completed.stdout + completed.stderr
