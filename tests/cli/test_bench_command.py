"""`kernel-builder bench` with a real loader and torch, on a project that takes no time."""

from __future__ import annotations

from pathlib import Path

import jsonschema

from tests.cli.commands import check_document, load_document, load_schema, run_builder

BENCHMARK = """\
import torch
from kernels import get_kernel
from kernels.benchmark import Benchmark


class ReLU(Benchmark):
    seed = 1
    quick = ("grouped",)

    def setup(self):
        self.x = torch.randn(4, 8, device=self.device)

    def setup_grouped(self):
        self.x = torch.randn(2, 4, 8, device=self.device)

    def benchmark_base(self):
        self.out = self.kernel.relu(self.x)

    def verify_base(self):
        return torch.relu(self.x)

    def benchmark_grouped(self):
        self.out = [self.kernel.relu(x) for x in self.x]

    def verify_grouped(self):
        return list(torch.relu(self.x))

    def reference_grouped(self):
        return list(self.x.clamp(min=0))

    def reference_grouped__by_name(self):
        assert get_kernel("kernels-test/relu-noarch", version=1) is self.kernel
        return [self.kernel.relu(x) for x in self.x]

    def bytes_grouped(self):
        return 2 * self.x.nbytes

    goals_grouped = {"reference": 1e-9, "read": 1e9, "another": 1.0}
"""

SETTINGS = ("--threads", "1", "--min-time", "0.001")


def write_benchmark(project: Path, text: str = BENCHMARK, name: str = "benchmark.py") -> None:
    (project / "benchmarks").mkdir(exist_ok=True)
    (project / "benchmarks" / name).write_text(text, encoding="utf-8")


def test_a_report_a_plot_and_a_comparison(own_noarch_project: Path, tmp_path: Path) -> None:
    write_benchmark(own_noarch_project)
    files = {path: path.read_bytes() for path in own_noarch_project.rglob("*") if path.is_file()}
    report, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    completed = run_builder(["bench", own_noarch_project, *SETTINGS, "--json", "--output", report, "--plot", plot])
    assert completed.returncode == 0, completed.stderr
    document = load_document(completed)
    check_document(document, "bench")
    jsonschema.validate(document["report"], load_schema("bench/report.schema.json"))
    (run,) = document["report"]["runs"]
    assert (run["threads"], run["device"], run["clock"]) == (1, "cpu", "cpu")
    assert list(run["ceilings"]) == ["read"]
    base, grouped = run["workloads"]
    assert (base["name"], base["verified-by"], list(base["references"])) == ("ReLU.base", "verify", ["verify"])
    assert list(grouped["references"]) == ["reference", "by_name"]
    assert [goal["met"] for goal in grouped["goals"]] == [True, False, False]
    assert plot.read_text(encoding="utf-8").startswith("<svg ")
    assert {path: path.read_bytes() for path in own_noarch_project.rglob("*") if path.is_file()} == files

    completed = run_builder(["bench", own_noarch_project, *SETTINGS, "--quick", "--compare", report])
    assert completed.returncode == 0, completed.stderr
    assert "ReLU.base" not in completed.stdout
    for part in ("x reference (", "x by_name (", "% read", "1 thread: CPU time, read ", "missed", "not measured"):
        assert part in completed.stdout
    (change,) = [line.split() for line in completed.stdout.splitlines() if " by_name " in line and "%" in line[-6:]]
    assert change[:3] == ["ReLU.grouped", "1", "by_name"]


def test_a_wrong_output_is_a_failure_and_leaves_no_report(own_noarch_project: Path, tmp_path: Path) -> None:
    write_benchmark(own_noarch_project, BENCHMARK.replace("return torch.relu(self.x)", "return self.x"))
    report = tmp_path / "report.json"
    completed = run_builder(["bench", own_noarch_project, *SETTINGS, "--output", report, "--json"])
    assert completed.returncode == 8, completed.stderr
    document = load_document(completed)
    check_document(document, "bench", ok=False)
    (problem,) = document["error"]["problems"]
    assert problem["message"].startswith("the output of `ReLU.base` is wrong: the largest error is ")
    assert (problem["file"], problem["key"]) == ("benchmarks/benchmark.py", "ReLU.base")
    assert "Traceback" not in completed.stderr
    assert not report.exists()


def test_a_benchmark_that_ends_the_process(own_noarch_project: Path) -> None:
    write_benchmark(own_noarch_project, BENCHMARK.replace("import torch\n", "import os\nos._exit(9)\n"))
    completed = run_builder(["bench", own_noarch_project, *SETTINGS])
    assert completed.returncode == 8
    assert "process ended with code 9 while importing the benchmarks" in completed.stderr


def test_nothing_to_measure(own_noarch_project: Path) -> None:
    completed = run_builder(["bench", own_noarch_project])
    assert completed.returncode == 8
    assert "error: no benchmarks were found: there is no `" in completed.stderr
    write_benchmark(own_noarch_project)
    completed = run_builder(["bench", own_noarch_project, "--filter", "Gelu*"])
    assert completed.returncode == 8
    assert "error: no benchmark is called so" in completed.stderr


def test_what_is_refused_before_anything_is_measured(own_noarch_project: Path, tmp_path: Path) -> None:
    unwritable = ("--output", tmp_path), ("--output", "/proc/report.json"), ("--plot", tmp_path / "a" / "b.svg")
    for option in (("--compare", tmp_path / "none.json"), ("--min-time", "nan"), ("--plot", "a.png"), *unwritable):
        completed = run_builder(["bench", own_noarch_project, *option])
        assert completed.returncode == 2, completed.stderr
        assert completed.stderr.startswith("error: ")
