"""Benchmark files as their authors write them: what is found, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kernel_builder.bench.child.__main__ import take_turns
from kernel_builder.bench.child.problem import TroubleError
from kernel_builder.bench.child.timing import Effort, Stopwatch
from kernel_builder.bench.child.verification import find_difference, verify_again, verify_first, verify_timed
from kernel_builder.bench.child.workloads import Workload, find_workloads, matches
from kernel_builder.bench.running import find_benchmark_files
from kernel_builder.errors import BenchmarkError

BENCHMARK = """\
import torch
from kernels.benchmark import Benchmark
from shapes import SHAPE


class ReLU(Benchmark):
    seed = 1
    quick = ("base",)

    def setup(self):
        self.x = torch.randn(SHAPE, device=self.device)

    def setup_pair(self):
        self.x = torch.ones(2, 3)

    def benchmark_base(self):
        self.out = self.kernel.relu(self.x)

    def verify_base(self):
        return torch.relu(self.x)

    def benchmark_pair(self):
        self.out = [self.kernel.relu(x) for x in self.x]

    def reference_pair(self):
        return list(self.x.clamp(min=0))

    def reference_pair__silent(self):
        self.x.clamp(min=0)

    def bytes_pair(self):
        return 2 * self.x.nbytes

    flops_pair = 6
    goals_pair = {"reference": 2.0}


class _Other(Benchmark):
    def benchmark_base(self):
        pass
"""
BECOMES_WRONG = """\
self.calls = getattr(self, "calls", 0) + 1
        self.out = self.kernel.relu(self.x) + self.calls // 2"""
KERNEL = SimpleNamespace(relu=torch.relu)  # any object may be a kernel


def find(
    tmp_path: Path, text: str = BENCHMARK, *, filters: tuple[str, ...] = (), quick: bool = False
) -> list[Workload]:
    (tmp_path / "shapes.py").write_text("SHAPE = (4, 8)\n", encoding="utf-8")
    file = tmp_path / "benchmark.py"
    file.write_text(text, encoding="utf-8")
    return find_workloads([file], KERNEL, "cpu", filters=filters, quick=quick)


def test_what_a_file_declares(tmp_path: Path) -> None:
    base, pair, other = find(tmp_path)
    assert [base.name, pair.name, other.name] == ["ReLU.base", "ReLU.pair", "_Other.base"]
    assert list(base.contestants) == ["kernel", "verify"], "what there is to compare with, if there is no reference"
    assert list(other.contestants) == ["kernel"]
    assert list(pair.contestants) == ["kernel", "reference", "silent"]
    assert (base.flops, base.bytes, base.goals) == (None, None, {})
    assert (pair.flops, pair.bytes, pair.goals) == (6.0, 48.0, {"reference": 2.0})
    assert base.instance.x.shape == (4, 8)
    assert pair.instance.x.shape == (2, 3)
    assert base.instance.kernel is KERNEL


def test_the_seed_makes_inputs_the_same(tmp_path: Path) -> None:
    first, second = find(tmp_path)[0], find(tmp_path, filters=("base",))[0]
    assert torch.equal(first.instance.x, second.instance.x)


def test_a_choice_of_workloads(tmp_path: Path) -> None:
    assert [each.name for each in find(tmp_path, quick=True)] == ["ReLU.base", "_Other.base"]
    assert [each.name for each in find(tmp_path, filters=("relu.P*",))] == ["ReLU.pair"]
    assert find(tmp_path, filters=("gelu",)) == []
    assert matches("ReLU.base", ())
    assert matches("ReLU.base", ("elu*ase", "nothing"))
    assert not matches("ReLU.base", ("a.*b",))


def test_outputs_that_are_right(tmp_path: Path) -> None:
    for workload in find(tmp_path):
        verify_first(workload)
        verify_timed(workload)
        verify_again(workload)
        assert (workload.expected is None) == (workload.name == "_Other.base")


@pytest.mark.parametrize(
    ("changed", "into", "told", "line"),
    [
        (
            "return torch.relu(self.x)",
            "return self.x",
            "the output of `ReLU.base` is wrong: the largest",
            None,
        ),
        ("return torch.relu(self.x)", "return self.x[:1]", "is wrong: the shape is (4, 8), not (1, 8)", None),
        ("self.out = self.kernel.relu(self.x)", "pass", "is wrong: `self.out` is nothing, and a `Tensor`", None),
        ("relu(self.x)\n\n    def v", "relu(self.x) / 0\n\n    def v", "is wrong: the largest error is inf", None),
        ("self.x.clamp(min=0))", "self.x + 1)", "the output of `ReLU.pair` is wrong", None),
        ("self.x.clamp(min=0))", "self.x)[1:]", "of `ReLU.pair` is wrong: the number of outputs is 2, not 1", None),
        ("relu(self.x)\n\n    def v", "relu(self.x) + 1j\n\n    def v", "is wrong: the largest error is 1,", None),
        (
            "relu(self.x)\n\n    def v",
            "relu(self.x).to_sparse()\n\n    def v",
            "is wrong: it cannot be compared: ",
            None,
        ),
        ("return torch.relu(self.x)", "torch.relu(self.x)", "the verification of `ReLU.base` returned nothing", None),
        ("self.out = self.kernel.relu(self.x)", BECOMES_WRONG, "the output of `ReLU.base` is wrong", None),
        ("self.kernel.relu(self.x)", "self.kernel.gelu(self.x)", "`ReLU.base` raised `AttributeError`", 17),
        ("torch.relu(self.x)", "torch.rely(self.x)", "the verification of `ReLU.base` raised `AttributeError`", 20),
        ("        self.x.clamp(min=0)", "        1 / 0", "the reference `silent` of `ReLU.pair` raised `Zero", 29),
    ],
)
def test_outputs_that_are_wrong(changed: str, into: str, told: str, line: int | None, tmp_path: Path) -> None:
    assert changed in BENCHMARK
    with pytest.raises(TroubleError) as caught:  # noqa: PT012 - whichever of the calls sees it first
        for workload in find(tmp_path, BENCHMARK.replace(changed, into)):
            verify_first(workload)
            workload.contestants["kernel"]()
            verify_timed(workload)
            verify_again(workload)
    (trouble,) = caught.value.troubles
    assert told in trouble.message
    assert (trouble.line, trouble.workload) == (line, "ReLU.pair" if "pair" in told else "ReLU.base")


@pytest.mark.parametrize(
    ("changed", "into", "told", "line"),
    [
        ("torch.randn(SHAPE", "torch.full(SHAPE", "the set-up of `ReLU.base` raised `TypeError`", 11),
        ("return 2 * self.x.nbytes", "raise SystemExit(3)", "the set-up of `ReLU.pair` raised `SystemExit`: 3", 32),
        ("import torch\n", "import torch as\n", "importing the file raised `SyntaxError`: invalid syntax", 1),
        ("import torch\n", "raise SystemExit(0)\n", "importing the file raised `SystemExit`: 0", 1),
        ("from shapes", "from forms", "importing the file raised `ModuleNotFoundError`: No module named `forms`", 3),
        ("(Benchmark)", "", "has no subclass of `kernels.benchmark.Benchmark`", None),
        ("def benchmark_base(self):\n        pass", "x = 1", "`_Other` has no method `benchmark_...`", None),
        ("flops_pair = 6", "flops_pair = float('nan')", "`flops_pair` must be a number from 0 on, got nan", None),
        ("return 2 * self.x.nbytes", "return -1", "`bytes_pair` must be a number from 0 on, got -1", None),
        ('"reference": 2.0', '"reference": "x"', "`goals_pair[`reference`]` must be a number from 0 on", None),
        ('{"reference": 2.0}', "3", "`goals_pair` must be a `dict` from labels to ratios, got 3", None),
        ("    seed = 1", "    seed, atol = 1, (2,)", "`atol` must be a number from 0 on, got (2,)", None),
        ('("base",)', '("base")', "`quick` of `ReLU` must be a tuple of names, got `base`", None),
        ('("base",)', '("bass",)', "`ReLU` has no `benchmark_bass`, but `quick` names it", None),
    ],
)
def test_files_that_cannot_be_measured(changed: str, into: str, told: str, line: int | None, tmp_path: Path) -> None:
    assert changed in BENCHMARK
    with pytest.raises(TroubleError) as caught:
        find(tmp_path, BENCHMARK.replace(changed, into), filters=("o", "base", "pair"), quick="quick" in told)
    trouble = caught.value.troubles[0]
    assert trouble.message.replace("'", "`").startswith(told)
    assert (trouble.line, Path(trouble.file).name) == (line, "benchmark.py")


def test_two_workloads_of_one_name_are_refused(tmp_path: Path) -> None:
    find(tmp_path)
    shutil.copy(tmp_path / "benchmark.py", tmp_path / "benchmark_more.py")
    files = [tmp_path / "benchmark.py", tmp_path / "benchmark_more.py"]
    with pytest.raises(TroubleError) as caught:
        find_workloads(files, KERNEL, "cpu", filters=("base",))
    assert [(trouble.file, trouble.workload) for trouble in caught.value.troubles] == [
        (str(files[1]), "ReLU.base"),
        (str(files[1]), "_Other.base"),
    ]
    assert "is in `benchmark.py` already" in caught.value.troubles[0].message


def test_a_call_that_raises_while_it_is_timed_is_explained(tmp_path: Path) -> None:
    late = """self.calls = getattr(self, "calls", 0) + 1
        self.out = self.kernel.relu(self.x + 0 // (5 - self.calls))"""
    (workload,) = find(tmp_path, BENCHMARK.replace("self.out = self.kernel.relu(self.x)", late), filters=("relu.base",))
    efforts = {"ReLU.base": Effort({"kernel": 1, "verify": 1}, rounds=7, seconds=1.0)}
    with pytest.raises(TroubleError) as caught:
        take_turns({"ReLU.base": workload}, {}, efforts, Stopwatch("cpu", 1), seed=0, note=lambda _: None)
    (trouble,) = caught.value.troubles
    assert trouble.message.startswith("`ReLU.base`, when it was timed, raised `ZeroDivisionError`")
    assert trouble.line == 18


def test_a_call_that_leaves_what_an_earlier_one_made_is_found(tmp_path: Path) -> None:
    once = """if not hasattr(self, "made"):
            self.made = self.out = self.kernel.relu(self.x)"""
    (workload,) = find(tmp_path, BENCHMARK.replace("self.out = self.kernel.relu(self.x)", once), filters=("relu.base",))
    verify_first(workload)
    efforts = {"ReLU.base": Effort({"kernel": 1, "verify": 1}, rounds=7, seconds=1.0)}
    with pytest.raises(TroubleError, match=r"`self\.out` is nothing"):
        take_turns({"ReLU.base": workload}, {}, efforts, Stopwatch("cpu", 1), seed=0, note=lambda _: None)


def test_an_output_that_the_set_up_makes_is_filled_anew(tmp_path: Path) -> None:
    filled = BENCHMARK.replace("self.out = self.kernel.relu(self.x)", "self.out.copy_(self.kernel.relu(self.x))")
    filled = filled.replace("device=self.device)", "device=self.device)\n        self.out = torch.empty_like(self.x)")
    (workload,) = find(tmp_path, filled, filters=("relu.base",))
    verify_first(workload)
    efforts = {"ReLU.base": Effort({"kernel": 1, "verify": 1}, rounds=7, seconds=1.0)}
    samples = take_turns({"ReLU.base": workload}, {}, efforts, Stopwatch("cpu", 1), seed=0, note=lambda _: None)
    assert len(samples["ReLU.base"]["kernel"]) == 7


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(TroubleError) as caught:
        find(tmp_path, BENCHMARK.replace("torch.randn", "torch.full").replace("return 2", "return 2 / 0"))
    assert [each.workload for each in caught.value.troubles] == ["ReLU.base", "ReLU.pair"]


def test_tensors_may_be_nested_and_of_other_dtypes() -> None:
    one, two = torch.ones(3), torch.full((3,), 2.0)
    assert find_difference((one, [two]), [one.double(), (two.bfloat16(),)], 0.0, 0.0) is None
    assert (
        find_difference((one, [two]), [one, (one,)], 0.5, 0.0) == "the largest error is 1, beyond atol=0.5 and rtol=0"
    )
    assert find_difference((one,), (one, two), 1.0, 0.0) is not None
    assert find_difference(one * torch.nan, one, 1.0, 0.0) == "the largest error is inf, beyond atol=1 and rtol=0"


def test_places_of_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    for name in ("benchmark_b.py", "benchmark.py", "other.py"):
        (tmp_path / "benchmarks" / name).touch()
    folder = Path("benchmarks")
    found = find_benchmark_files(tmp_path, [folder, folder / "other.py", folder / "benchmark.py"])
    assert [file.name for file in found] == ["benchmark.py", "benchmark_b.py", "other.py"]
    with pytest.raises(BenchmarkError, match=r"there is no `benchmark\*\.py` in") as caught:
        find_benchmark_files(tmp_path, [Path(), Path("none.py")])
    assert len(caught.value.problems) == 2
