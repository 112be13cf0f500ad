"""The flagship's benchmarks run on its real artifacts, and their outputs are right; nothing here looks at the times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.artifact import ROOT, attention_repository

pytestmark = [pytest.mark.slow, pytest.mark.compile]


def run(*arguments: str | Path, **environment: str) -> str:
    """Run a script or module on one thread, and return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "builder"), "OMP_NUM_THREADS": "1", **environment}
    completed = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.mark.parametrize(
    ("place", "filters", "workloads"),
    [
        ("benchmarks", (), 8),
        ("benchmarks/grid", ("Short", "Packed", "Strided", "Sinks", "Backward.*_d64_s1024_causal"), 12),
    ],
)
def test_outputs_are_right(place: str, filters: tuple[str, ...], workloads: int) -> None:
    attention = attention_repository()
    settings: list[str | Path] = ["--threads", "1", "--min-time", "0.001", "--json", "--artifacts", attention / "build"]
    chosen = ["--quick", *(word for name in filters for word in ("--filter", name))] if filters else []
    command: list[str | Path] = ["-m", "kernel_builder", "bench", ROOT, "--from", place, *settings, *chosen]
    rivals = f"again={attention / 'build'}:sinks={attention / 'build' / 'attn-sinks'}"
    (measured,) = json.loads(run(*command, ATTENTION_RIVALS=rivals))["report"]["runs"]
    assert len(measured["workloads"]) == workloads
    against = {
        each["name"].partition(".")[0]: {"again", "sinks"} & each["references"].keys() for each in measured["workloads"]
    }
    if filters:
        both = {"again", "sinks"}
        assert against == {"Backward": both, "Packed": {"again"}, "Short": both, "Sinks": set(), "Strided": both}
    assert all(each["verified-by"] == "verify" and each["references"] for each in measured["workloads"])
    assert not [goal for each in measured["workloads"] for goal in each["goals"] if goal["seen"] is None]


@pytest.mark.parametrize("command", ["generate", "train"])
def test_a_model_gives_the_same_with_every_implementation(command: str, tmp_path: Path) -> None:
    attention_repository()
    sizes = ["--batches", "2", "--tokens", "2", "--prompt", "16", "--padded", "--plain"]
    effort = ["--min-time", "0.001", "--turns", "2", "--mem-repeats", "1", "--device", "cpu", "--threads", "1"]
    out = run("benchmarks/causal_lm.py", command, *sizes, *effort, "--output", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    labels = ["eager", "sdpa", "flash-attn-kernel", "attn-sinks"]
    if command == "generate":
        unit = "(Latency s / Tok/s / Alloc GiB / Reserved GiB)"
        assert f"| Batch | Tokens | {' | '.join(f'{label} {unit}' for label in labels)} |\n|-------|--------|-" in out
        assert "- flash-attn-kernel = `attn_implementation=kernel-builder/flash-attn-kernel`  \n" in out
        assert list(figures["cells"][0]["columns"]) == labels
    else:
        assert [row["label"] for row in figures["rows"]] == labels


def test_the_cost_of_a_build_is_that_of_its_processes(tmp_path: Path) -> None:
    project, figures = ROOT / "tests/fixtures/kernels/relu-stable", tmp_path / "figures.json"
    out = run("benchmarks/build_cost.py", project, "--backend", "cpu", "--output", figures)
    cost = json.loads(figures.read_text(encoding="utf-8"))
    (variant,) = cost["variants"]
    assert "-cpu-" in variant
    assert out.startswith(f"{variant}: ")
    assert cost["cpu-s"] > 0
    assert cost["peak-bytes"] > 100 << 20, "a compiler that includes torch has more than this"


def test_a_build_that_fails_has_no_cost(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command: list[str | Path] = [sys.executable, "benchmarks/build_cost.py"]
    command += [tmp_path, "--backend", "cpu", "--output", figures]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode != 0
    assert "the build for `cpu` failed" in completed.stderr
    assert not figures.exists()
