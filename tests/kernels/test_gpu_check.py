"""The script for machines with a GPU, as far as it goes without: what it refuses, compares, times and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from scripts.gpu_exact import LARGEST_ERROR, Results, attend_exactly, differentiate_exactly, largest_error
from scripts.gpu_layouts import find_layout_failures
from scripts.gpu_report import finish
from scripts.gpu_sanitizer import run_sanitizer
from scripts.gpu_surroundings import find_surroundings_failures
from scripts.gpu_timing import list_faults, measure
from scripts.gpu_workloads import Place, Workload, list_workloads

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"
CPU = torch.device("cpu")
WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: `make gpu-check` runs it")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], check=False, capture_output=True, text=True)


@WITHOUT_GPU
def test_it_says_that_there_is_no_gpu() -> None:
    ended = _run()
    assert ended.returncode == 2
    assert ended.stdout.startswith(f"there is no CUDA device here for torch {torch.__version__} (")


def test_it_says_that_there_is_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scripts", "tests"):  # as somebody's package brought them
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = _run("--build", str(tmp_path / "none"), "--device", "cpu")
    assert ended.returncode == 2
    assert ended.stdout.startswith(
        f"there is nothing to check: `{tmp_path / 'none'}` has no artifact, and this is torch "
    )


@pytest.mark.parametrize("device", ["foo", "mps", "cuda:x"])
def test_it_says_what_is_no_device(device: str) -> None:
    ended = _run("--device", device)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"argument --device: `{device}` is " in ended.stderr.splitlines()[-1]


def test_cases_are_held_against_fp64(attention_artifact: Path) -> None:
    ended = _run("--build", str(attention_artifact / "build"), "--device", "cpu", "--only", "3")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == "3 cases agree with fp64\n"


def test_layouts_are_held_against_the_same_numbers_side_by_side(flash: ModuleType) -> None:
    assert list(find_layout_failures(Place(flash, CPU), {})) == []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
        return flash.attention.attend(q, k * (1.1 if k.stride(2) == 0 else 1.0), v, **options)

    faulty = ModuleType("faulty")
    faulty.attention = SimpleNamespace(attend=attend)  # type: ignore[attr-defined]
    found = list(find_layout_failures(Place(faulty, CPU), {}))
    assert [line.split(":")[0] for line in found] == [f"the same head again, head dim {dim}" for dim in (64, 128, 256)]


def test_a_compiled_call_is_held_against_a_plain_one(flash: ModuleType) -> None:
    assert list(find_surroundings_failures(Place(flash, CPU))) == []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
        return flash.attention.attend(q, k, v * (1.1 if torch.compiler.is_compiling() else 1.0), **options)

    faulty = ModuleType("faulty")
    faulty.attention = SimpleNamespace(attend=attend)  # type: ignore[attr-defined]
    assert list(find_surroundings_failures(Place(faulty, CPU))) == [
        "compiled as one graph: off by 10.0% from a plain call"
    ]


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_exact_is_what_torch_computes(*, causal: bool) -> None:
    """In pieces of rows, with two query heads to one of keys, and fewer queries than keys."""
    q, k, v = (torch.randn(2, rows, heads, 32).requires_grad_() for rows, heads in ((300, 4), (400, 2), (400, 2)))
    upstream = torch.randn(q.shape)
    visible = torch.ones(300, 400, dtype=torch.bool).tril(100) if causal else None
    queries, keys, values = (x.transpose(1, 2).double() for x in (q, k, v))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    out = sdpa(queries, keys, values, attn_mask=visible, enable_gqa=True).transpose(1, 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("scripts.gpu_exact.ROWS_AT_ONCE", 128)
        assert largest_error(attend_exactly(q, k, v, causal=causal), (out,)) < 1e-5
        gradients = differentiate_exactly(q, k, v, upstream, causal=causal)
    assert largest_error(gradients, torch.autograd.grad(out, (q, k, v), upstream.double())) < 1e-5


def test_an_error_is_that_of_the_worst_block() -> None:
    exact = torch.randn(2, 300, 3, 16)
    rounded = exact.bfloat16()
    assert largest_error((rounded,), (exact,)) < LARGEST_ERROR / 2
    for spoil in (0.0, float("nan"), float("inf")):
        wrong = rounded.clone()
        wrong[1, 290, 2] = spoil
        assert largest_error((rounded, wrong), (exact, exact)) > 10 * LARGEST_ERROR
    assert largest_error((rounded[:, :299],), (exact,)) == float("inf")


TRIED = ("forward d128 128 causal", "backward d64 16 full", "backward d128 128 causal", "decode 1 x 32, pages")


@pytest.fixture(scope="module")
def records(flash: ModuleType) -> dict[str, dict[str, Any]]:
    """Give what is measured of a few workloads, here by the kernels for CPUs."""
    place = Place(flash, CPU, tokens=128)
    makers = list_workloads(place)
    assert len(makers) == 26
    return {record["workload"]: record for record in measure(place, {name: makers[name] for name in TRIED}, 1, 60.0)}


def test_everybody_is_timed_and_verified(records: dict[str, dict[str, Any]]) -> None:
    """Flash attention of torch is there on a CPU, too, and that of cuDNN is not."""
    forward, *backward, decode = (records[name] for name in TRIED)
    assert forward["contenders"].keys() == {"ours", "baseline", "sinks", "torch flash"}
    ways = {"ours", "deterministic", "baseline", "baseline, deterministic", "torch flash"}
    assert [record["contenders"].keys() for record in backward] == [ways, ways]
    assert decode["contenders"].keys() == {"ours"}
    for record in records.values():
        assert record["missing"].keys() == ({"torch cuDNN"} if record is not decode else set())
        for who, one in record["contenders"].items():
            assert not one["wrong"], f"{record['workload']}: {who}"
            assert 0.0 < one["error"] < LARGEST_ERROR
            assert one["rate"] > 0.0
    assert list_faults(list(records.values())) == []


def _spoiled(run: Any, tile: tuple[slice, ...]) -> Any:
    def spoil() -> Results:
        first, *others = run()
        wrong = first.detach().clone()
        wrong[tile] = 0.0
        return wrong, *others

    return spoil


def _fails() -> Results:
    raise RuntimeError("no kernel image is available\nmore of it")


def test_what_is_wrong_is_told(flash: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(flash, CPU, tokens=128)

    def with_faults() -> Workload:
        made = list_workloads(place)["backward d128 128 causal"]()
        made.contenders["ours"] = _spoiled(made.contenders["ours"], (slice(0, 1), slice(96, 100), slice(3, 4)))
        made.contenders["deterministic"] = _fails
        return made

    records = list(measure(place, {"backward": with_faults, "decode": _fails}, 1, 60.0))  # type: ignore[dict-item]
    faults = list_faults(records)
    assert [fault.rpartition(" is off by ")[0] or fault for fault in faults] == [
        "backward d128 128 causal: what `ours` computed while it was timed",
        "backward d128 128 causal: `deterministic` did not run: no kernel image is available",
        "decode: no kernel image is available",
    ]
    report = {"device": "a GPU", "torch": "2", "cuda": "13.0", "cudnn": 9, "cases": 5, "failures": faults}
    report |= {"workloads": records, "ceilings": {"product": 700.0, "copy": 4.0}}
    finish(report, tmp_path / "kept" / "report.json", 12.3)
    assert json.loads((tmp_path / "kept" / "report.json").read_text(encoding="utf-8")) == report
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "a GPU, torch 2, CUDA 13.0, cuDNN 9: product 700 TFLOP/s, copy 4.00 TB/s"
    assert table[1].split()[:5] == ["backward", "d128", "128", "causal", "WRONG"]
    assert " (WRONG)  baseline " in table[1]
    assert table[1].endswith("torch cuDNN: not run")
    assert table[2] == "decode                       no kernel image is available"
    assert [line for line in table if line.startswith("FAILED")] == [f"FAILED {fault}" for fault in faults]
    assert table[-1] == "5 cases, 3 failures in 12 s"


def test_time_that_ran_out_is_told() -> None:
    place = Place(ModuleType("never_called"), CPU)
    (record,) = measure(place, list_workloads(place), 1, -1.0)
    assert record == {"workload": "26 more: no time was left", "contenders": {}}
    assert list_faults([record]) == []


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("exit 0", ("clean", False)),
        ("echo out of bounds; exit 9", ("exit status 9: out of bounds\n", True)),
        ("sleep 60 & wait", ("not done after 1 s", False)),
        (None, ("compute-sanitizer is not installed here", False)),
    ],
)
def test_a_sanitizer_is_found_beside_nvcc(
    does: str | None, told: tuple[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    if does is None and Path("/usr/local/cuda/bin/compute-sanitizer").exists():
        pytest.skip("it is installed here")
    if does is not None:
        (tmp_path / "bin").mkdir()
        tool = tmp_path / "bin" / "compute-sanitizer"
        tool.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        tool.chmod(0o755)
    assert run_sanitizer(["program"], 1.0) == told
