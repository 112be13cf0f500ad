"""The page tells what the figures in the repository say, and nothing that was typed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kernel_builder.bench.plot import render_plot
from kernel_builder.bench.report import load_report

ROOT = Path(__file__).parents[3]


@pytest.fixture
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("page", ROOT / "benchmarks" / "page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_tells_the_figures_that_are_kept(page: ModuleType) -> None:
    sections = page.read_sections(ROOT / page.PAGE)
    assert len(sections) >= 2
    for place, section in sections.items():
        assert list((ROOT / place).glob("*.json"))
        assert section == page.render_section(ROOT, place)


def test_plots_that_are_kept_show_the_figures_beside_them() -> None:
    reports = list((ROOT / "benchmarks" / "results").rglob("attention.json"))
    assert reports
    for report in reports:
        assert report.with_suffix(".svg").read_text(encoding="utf-8") == render_plot(load_report(report))


@pytest.mark.parametrize("arguments", [["benchmarks/results"], ["elsewhere"], ["benchmarks/results/new", "--render"]])
def test_figures_have_a_directory_of_their_own(arguments: list[str]) -> None:
    command = [sys.executable, "benchmarks/measure.py", *arguments]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 2
    assert f"{arguments[0]}\n" in completed.stderr


def test_writing_twice_changes_nothing(page: ModuleType, tmp_path: Path) -> None:
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    copy = tmp_path / "docs" / "benchmarks.md"
    copy.parent.mkdir()
    copy.write_text(text, encoding="utf-8")
    for place in page.read_sections(ROOT / page.PAGE):
        kept = tmp_path / place
        kept.mkdir(parents=True)
        for figures in (ROOT / place).glob("*.json"):
            (kept / figures.name).write_bytes(figures.read_bytes())
        page.write_page(copy, place)
    assert copy.read_text(encoding="utf-8") == text


def test_another_machine_gets_a_section_of_its_own(page: ModuleType, tmp_path: Path) -> None:
    copy = tmp_path / "docs" / "benchmarks.md"
    copy.parent.mkdir()
    copy.write_text("Seen:\n\n<!-- measured: old -->\nkept\n<!-- end of what was measured -->\n", encoding="utf-8")
    page.write_page(copy, Path("new"))
    assert list(page.read_sections(copy)) == [Path("new"), Path("old")]
    assert page.read_sections(copy)[Path("old")] == "kept\n"


def test_every_kind_of_figures_has_a_table(page: ModuleType, tmp_path: Path) -> None:
    column = {"latency-s": 1.0, "tokens-per-s": 32.0, "alloc-bytes": 1 << 30, "reserved-bytes": 2 << 30}
    columns = {
        "sdpa": column | {"times-sdpa": [1.0, 1.0, 1.0]},
        "flash-attn-kernel": column | {"times-sdpa": [0.9, 0.95, 1.0]},
        "attn-sinks": column | {"times-sdpa": [1.0, 1.1, 1.2]},
    }
    row = {"step-s": [1.0, 2.0, 3.0], "tokens-per-s": 5.0, "alloc-bytes": 0, "reserved-bytes": 0, "loss": 7.5}
    about = {"threads": 2, "load-before": 0.25, "options": {"prompt": "256"}, "model": "a model"}
    files = {
        "generate-2": about | {"cells": [{"batch": 1, "tokens": 32, "columns": columns}]},
        "train": about | {"loop": "a plain loop", "rows": [row | {"label": "sdpa"}, row | {"label": "attn-sinks"}]},
        "first-use": about | {"build-s": 60.0, "own-s": 0.5, "prebuilt-s": 0.25, "same-binary": True},
    }
    for name, figures in files.items():
        (tmp_path / f"{name}.json").write_text(page.json.dumps(figures), encoding="utf-8")
    text = page.render_section(tmp_path, Path())
    assert "| 1 | 32 | 1.000 / 32.0 / 1.000 / 2.000 |" in text
    assert "| 1 | 32 | **0.95 (0.90 .. 1.00)** | 1.10 (1.00 .. 1.20) |" in text
    assert "| attn-sinks | 2.000 (1.000 .. 3.000) | 5 | 1.00 | 0.000 | 7.5000 |" in text
    assert "| from source | 60.0 | 0.50 | 60.5 |" in text
