"""`--torch`, `--matrix` and `--matrix-file`: which releases are planned for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import KERNELS, check_document, load_document, run_builder

CLASSIC = KERNELS / "relu-classic"
NEW = '[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncpu = { hosts = ["x86_64-linux", "aarch64-linux"] }\n'


def plan(*words: str | Path, env: dict[str, str | None] | None = None) -> dict[str, Any]:
    completed = run_builder(["plan", CLASSIC, "--kernel", "relu-classic", "--json", *words], env=env)
    assert completed.returncode == 0, completed.stderr
    document = load_document(completed)
    check_document(document, "plan")
    planned: dict[str, Any] = document["plan"]
    return planned


def releases(document: dict[str, Any]) -> list[str]:
    return [variant["torch"] for variant in document["variants"]]


def test_releases_are_planned_for_whether_they_are_here_or_not() -> None:
    document = plan("--torch", "2.15", "--torch", "2.11")
    assert releases(document) == ["2.11", "2.15"]
    (toolchain,) = document["toolchains"]
    assert toolchain["name"] == "cpu"
    assert (toolchain["variants"], toolchain["shared-units"]) == (2, 1)
    assert [unit["shared"] for unit in document["variants"][0]["units"]].count(True) == 1
    assert [torch["cxx-standard"] for torch in document["environment"]["torches"]] == [17, 20]


def test_the_variable_takes_several() -> None:
    assert releases(plan(env={"KERNEL_BUILDER_TORCH": os.pathsep.join(["2.12", "2.14"])})) == ["2.12", "2.14"]


def test_the_whole_matrix() -> None:
    document = plan("--matrix")
    assert releases(document) == ["2.10", "2.11", "2.12", "2.13", "2.14", "2.15"]
    assert {"cpu on aarch64-darwin", "cpu on x86_64-windows"} <= {item["subject"] for item in document["excluded"]}


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_release_of_ones_own(tmp_path: Path, way: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(NEW, encoding="utf-8")
    words = ["--matrix-file", str(mine)] if way == "option" else []
    env: dict[str, str | None] = {} if way == "option" else {"KERNEL_BUILDER_MATRIX": str(mine)}
    assert releases(plan("--torch", "2.16", *words, env=env)) == ["2.16"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--torch", "2.99"], "torch 2.99 is not in the matrix, which has 2.10, "),
        (["--torch", "2.13.0"], "there is no torch at `2.13.0`"),
        (["--matrix-file", "nowhere.toml"], "cannot read the matrix `nowhere.toml`"),
    ],
)
def test_what_cannot_be_planned_for_is_told(words: list[str], told: str) -> None:
    completed = run_builder(["plan", CLASSIC, *words])
    assert completed.returncode == 2
    assert told in completed.stderr


def test_the_table_tells_what_is_compiled_once() -> None:
    completed = run_builder(["plan", CLASSIC, "--torch", "2.11", "--torch", "2.13", "--verbose"])
    assert completed.returncode == 0
    assert "9 files for 4 artifacts, 1 of them once for several" in completed.stdout
    assert "shift_cpu" in completed.stdout
    assert "for this one" in completed.stdout


def test_what_nothing_here_compiles_for_is_told_as_missing() -> None:
    completed = run_builder(["plan", CLASSIC, "--host", "x86_64-windows"])
    assert completed.returncode == 0
    assert "missing: build on x86_64-windows" in completed.stdout
