"""From samples to figures, tables and plots; nothing here is measured."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from kernel_builder.artifact.model import Artifact, Metadata
from kernel_builder.backend import Backend
from kernel_builder.bench.plot import render_plot
from kernel_builder.bench.report import format_report, is_busy, load_report, make_report
from kernel_builder.bench.running import BenchOptions
from kernel_builder.bench.spread import Spread, compute_ratios, compute_spread
from kernel_builder.bench.table import format_seconds, list_ceilings, list_changes, list_goal_rows, list_rows
from kernel_builder.errors import BadInputError
from kernel_builder.variant import parse_variant

SCHEMA = Path(__file__).parents[3] / "builder" / "kernel_builder" / "bench" / "report.schema.json"
MACHINE: dict[str, Any] = {
    "cpu": "Some CPU",
    "isa": ["avx2"],
    "cores": 2,
    "usable-cores": 2,
    "cache-bytes": None,
    "memory-bytes": None,
    "governor": None,
    "os": "Linux",
    "accelerator": None,
    "python": "3.11",
    "torch": "2.13",
    "kernels": "0.17",
    "torch-isa": "AVX2",
}


def make_workload(name: str, scale: float, **changed: Any) -> dict[str, Any]:
    seconds = {
        "kernel": [0.1 * scale, 0.3 * scale, 0.2 * scale],
        "slow & steady": [0.2, 0.6, 0.4],
        "float32-mm": [0.05, 0.15, 0.1],
    }
    return {
        "name": name,
        "file": "benchmark.py",
        "dtype": "float32",
        "flops": 1e9,
        "bytes": None,
        "verified-by": "verify",
        "goals": {"slow & steady": 1.5, "float32-mm": 0.9},
        "references": ["slow & steady"],
        "calls": dict.fromkeys(seconds, 1),
        "seconds": seconds,
        "busy": {label: [1.0] * 3 for label in seconds},
    } | changed


def make(*workloads: dict[str, Any], load: float = 0.1) -> dict[str, Any]:
    run = {
        "threads": 2,
        "device": "cpu",
        "clock": "wall",
        "machine": MACHINE,
        "load": {"before": [load, 0.0, 0.0], "after": None},
        "ceilings": {"float32-mm": {"unit": "flop", "work": 1e9}},
        "workloads": list(workloads),
    }
    artifact = Artifact(Path("torch-cpu"), parse_variant("torch-cpu"), Metadata("relu", "relu", 1, "x", Backend.CPU))
    date = datetime(2026, 1, 2, tzinfo=UTC)
    return make_report(artifact, "0" * 64, [run], BenchOptions(threads=(2,)), date)


def test_quartiles() -> None:
    assert compute_spread([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(2.0, 3.0, 4.0)
    assert compute_spread([1.0, 2.0]) == Spread(1.25, 1.5, 1.75)
    assert compute_spread([7.0]) == Spread(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no numbers"):
        compute_spread([])


def test_ratios_are_paired() -> None:
    noise = [1.0, 10.0, 3.0]
    assert compute_ratios([2 * each for each in noise], noise) == Spread(2.0, 2.0, 2.0)


def test_the_report_keeps_its_schema_and_computes_by_turn() -> None:
    report = make(make_workload("A.x", 1.0))
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(report)
    (workload,) = report["runs"][0]["workloads"]
    assert workload["kernel"]["seconds"] == {"q1": 0.15, "median": 0.2, "q3": 0.25}
    assert workload["references"]["slow & steady"]["ratio"] == {"q1": 2.0, "median": 2.0, "q3": 2.0}
    assert workload["shares"]["float32-mm"]["median"] == pytest.approx(0.5)
    assert workload["flop-rate"] == pytest.approx(5e9)
    assert [goal["met"] for goal in workload["goals"]] == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", '{"schema": 99, "runs": []}', '{"schema": 1}', "\x00", "[" * 100_000),
        *('{"schema": 1, "runs": [{}]}', '{"schema": 1, "runs": [], "machine": 3}'),
    ],
)
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    with pytest.raises(BadInputError, match="cannot read"):
        load_report(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=r"`.*old\.json`"):
        load_report(file)


def test_a_report_is_read_back(tmp_path: Path) -> None:
    report = make(make_workload("A.x", 1.0))
    (tmp_path / "old.json").write_text(format_report(report), encoding="utf-8")
    assert load_report(tmp_path / "old.json") == report
    (tmp_path / "old.json").write_text(format_report(report | {"schema": 99}), encoding="utf-8")
    with pytest.raises(BadInputError, match="has the schema `99`, this release reads `1`"):
        load_report(tmp_path / "old.json")


def test_tables() -> None:
    report = make(make_workload("A.x", 1.0), make_workload("A.y", 1.0, **{"verified-by": None, "flops": 2e9}))
    first, second = list_rows(report)
    assert first == (
        *("A.x", "2", "3", "200 ms", "150 ms .. 250 ms", "5 GFLOP/s"),
        *("50% float32-mm", "2.00x slow & steady (2.00 .. 2.00)", "yes"),
    )
    assert (second[6], second[8]) == ("100% float32-mm", "no")
    assert list(list_ceilings(report)) == ["2 threads: wall time, float32-mm 10 GFLOP/s, load average 0.1 before"]
    assert list(list_goal_rows(report))[:2] == [
        ("A.x", "2", "slow & steady", ">= 1.50x", "2.00x", "met"),
        ("A.x", "2", "float32-mm", ">= 90%", "50%", "missed"),
    ]


def test_a_comparison_is_of_what_both_have() -> None:
    old, new = make(make_workload("A.x", 1.0), make_workload("A.z", 1.0)), make(make_workload("A.x", 0.5))
    assert list(list_changes(old, new)) == [
        ("A.x", "2", "slow & steady", "2.00x", "4.00x", "+100.0%"),
        ("A.x", "2", "float32-mm", "50%", "100%", "+100.0%"),
        ("A.x", "2", "time", "200 ms", "100 ms", "+100.0%"),
    ]


def test_the_plot_is_well_formed_and_the_same_each_time() -> None:
    report = make(make_workload("A.x", 1.0), make_workload("A.<y>", 40.0))
    picture = render_plot(report)
    assert picture is not None
    assert picture == render_plot(json.loads(json.dumps(report)))
    words = [element.text for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert {"A.x", "A.<y>", "slow & steady", "2.00x", "0.05x", "1x"} <= set(words)
    assert render_plot(make(make_workload("A.x", 1.0, references=[]))) is None


def test_each_reference_has_a_color_and_long_names_have_room() -> None:
    labels = [f"reference {number}" for number in range(8)]
    seconds = {"kernel": [1.0]} | {label: [2.0] for label in labels}
    calls, busy = dict.fromkeys(seconds, 1), {label: [1.0] for label in seconds}
    parts = {"references": labels, "seconds": seconds, "calls": calls, "busy": busy, "goals": {}}
    picture = render_plot(make(make_workload("A." + "long" * 30, 1.0, **parts)))
    assert picture is not None
    elements = list(ET.fromstring(picture).iter())  # noqa: S314 - our own
    legend = [each.get("fill") for each in elements if each.get("width") == "12"]
    assert len(set(legend)) == len(legend) == len(labels)
    (name,) = [each for each in elements if (each.text or "").startswith("A.long")]
    assert float(name.get("textLength", "inf")) < float(name.get("x", "0"))


def test_a_busy_machine_is_known() -> None:
    quiet, busy = make(make_workload("A.x", 1.0)), make(make_workload("A.x", 1.0), load=5.0)
    assert not is_busy(quiet["runs"][0], cores=2)
    assert is_busy(busy["runs"][0], cores=2)
    assert not is_busy(busy["runs"][0], cores=16)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.0, "2 s"),
        (-1.0, "-1 s"),
        (float("nan"), "nan s"),
        (1234.0, "1234 s"),
        (0.01234, "12.3 ms"),
        (4.5e-6, "4.5 us"),
        (3e-8, "30 ns"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
