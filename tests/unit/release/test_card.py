from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.artifact.model import GitState, Provenance
from kernel_builder.backend import Backend
from kernel_builder.release.card import Page, find_reports, render_card
from kernel_builder.release.contents import collect_release, describe_file, find_figures
from kernel_builder.release.model import Evidence, Release, Repo
from tests.unit.release.samples import make_artifact

GOOD = Evidence("passed", "3 passed on x86_64-linux, torch 2.13.0")
REPO = Repo("acme/relu")
SPREAD = {"q1": 0.9, "median": 1.0, "q3": 1.1}
REPORT: dict[str, Any] = {
    "schema": 1,
    "artifact": "0" * 64,
    "date": "2026-11-20T12:00:00+00:00",
    "machine": {"cpu": "A CPU", "torch": "2.13.0", "usable-cores": 4},
    "runs": [
        {
            "threads": 1,
            "clock": "cpu",
            "load": {"before": None, "after": None},
            "ceilings": {},
            "workloads": [
                {
                    "name": "Forward.small",
                    "kernel": {"samples": 7, "seconds": SPREAD},
                    "references": {"sdpa": {"ratio": SPREAD}},
                    "shares": {},
                    "goals": [],
                    "flop-rate": None,
                    "byte-rate": None,
                    "verified-by": "verify",
                }
            ],
        }
    ],
}
LOADED = {"before": [3.0, 0, 0], "after": None}
WORKLOAD = REPORT["runs"][0]["workloads"][0]


def make_release(place: Path, evidence: Evidence = GOOD, **options: Any) -> Release:
    artifact = make_artifact(place / "build", **options)
    return replace(collect_release([artifact]), evidence={str(artifact.variant): evidence})


def render(release: Release, *, is_trusted: bool = True) -> str:
    return render_card(release, Page(REPO, is_trusted)).decode()


def read_code(card: str) -> list[str]:
    return [block.split("\n```")[0] for block in card.split("```python\n")[1:]]


def test_usage_lines_are_whole(tmp_path: Path) -> None:
    (code,) = read_code(render(make_release(tmp_path)))
    assert code == 'from kernels import get_kernel\n\nkernel = get_kernel("acme/relu", version=1)'
    (code,) = read_code(render(make_release(tmp_path), is_trusted=False))
    assert 'get_kernel("acme/relu", version=1, trust_remote_code=["acme/relu"])' in code
    compile(code, "card", "exec")


def test_attention_kernels_show_the_line_for_transformers(tmp_path: Path) -> None:
    files = {"__init__.py": "def flash_attn_varlen_func(): ...\n"}
    _, code = read_code(render(make_release(tmp_path / "a", files=files)))
    assert 'attn_implementation="acme/relu",' in code
    compile(code, "card", "exec")
    _, code = read_code(render(make_release(tmp_path / "b", files=files, version=2), is_trusted=False))
    assert 'attn_implementation="acme/relu@v2",\n    allow_all_kernels=True,' in code


def test_layers_show_how_they_are_mapped(tmp_path: Path) -> None:
    files = {"layers.py": "import torch\n\nclass RMSNorm(torch.nn.Module): ...\n\ndef helper(): ...\n"}
    _, code = read_code(render(make_release(tmp_path, files=files), is_trusted=False))
    compile(code, "card", "exec")
    assert 'for name in ["RMSNorm"]' in code
    assert 'for device in ["cpu"]' in code
    assert 'LayerRepository("acme/relu", layer_name=name, version=1, trust_remote_code=["acme/relu"])' in code


def test_silence_means_that_nothing_is_missing(tmp_path: Path) -> None:
    assert "> **" not in render(make_release(tmp_path))
    card = render(make_release(tmp_path, Evidence(None, None)))
    assert "no audit has passed for any variant" in card
    assert "no test run is recorded for any variant" in card
    assert "| cpu | not passed | none recorded |" in card


def test_a_dirty_build_is_told(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    holding = release.holdings[0]
    provenance = Provenance("0", kernel=GitState("0" * 40, dirty=True))
    metadata = replace(holding.metadata, provenance=provenance)
    assert "changes that no commit has" in render(replace(release, holdings=(replace(holding, metadata=metadata),)))


def test_capabilities_and_names_are_listed(tmp_path: Path) -> None:
    card = render(make_release(tmp_path, capabilities=["dropout"], archs=["8.0", "9.0a"]))
    assert "Public names: `relu`" in card
    assert "Users may rely on: `dropout`" in card
    assert "cpu (8.0, 9.0a)" in card


def test_what_one_backend_alone_can_do_is_listed_with_it(tmp_path: Path) -> None:
    release = make_release(tmp_path, capabilities=["dropout"])
    other = make_release(tmp_path / "other", capabilities=["dropout", "float16"]).holdings[0]
    other = replace(other, variant="torch-cuda", metadata=replace(other.metadata, backend=Backend.CUDA))
    card = render(replace(release, holdings=(*release.holdings, other)))
    assert "Users may rely on: `dropout`" in card
    assert "On cuda also on: `float16`" in card
    assert "On cpu also" not in card


@pytest.mark.parametrize(("license_id", "front"), [("MIT", 'license: "mit"'), ("Mine", 'license: "other"')])
def test_the_hub_is_given_licenses_that_it_knows(tmp_path: Path, license_id: str, front: str) -> None:
    release = make_release(tmp_path)
    holding = release.holdings[0]
    metadata = replace(holding.metadata, license=license_id)
    card = render(replace(release, holdings=(replace(holding, metadata=metadata),)))
    assert front in card
    assert ('license_name: "Mine"' in card) is (license_id == "Mine")
    assert "\ntags:\n- kernel\n---\n" in card


def test_nothing_that_others_wrote_becomes_markup(tmp_path: Path) -> None:
    hostile = "x | y](http://evil) <script>*_`\n# heading"
    card = render(make_release(tmp_path, Evidence(hostile, hostile)))
    assert "<script>" not in card
    assert "\n# heading" not in card
    assert "`y](http://evil)`" in card
    (row,) = [line for line in card.splitlines() if line.startswith("| `torch-cpu`")]
    assert row.replace("\\|", "").count("|") == 6


def test_benchmarks_of_the_kernel_are_shown(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "a.json").write_text(json.dumps({**REPORT, "kernel": "relu"}), encoding="utf-8")
    (results / "b.json").write_text(json.dumps({**REPORT, "kernel": "other"}), encoding="utf-8")
    (results / "c.json").write_text("[]", encoding="utf-8")
    (results / "d.json").write_text(json.dumps({"schema": 1, "kernel": "relu", "runs": [3]}), encoding="utf-8")
    (results / "machine").mkdir()
    (results / "machine" / "plot.svg").write_text("<svg/>", encoding="utf-8")
    reports = find_reports(tmp_path, "relu")
    release = replace(make_release(tmp_path), figures=find_figures(tmp_path))
    card = render_card(release, Page(REPO, is_trusted=True, reports=reports)).decode()
    assert card.count("## Benchmarks on ") == 1
    assert "on A CPU with torch 2.13.0, 2026-11-20, with an earlier build" in card
    assert "| `Forward.small` | 1 | 1 s | 1.00x sdpa (0.90 .. 1.10) | yes |" in card
    assert "![benchmark results](benchmarks/machine/plot.svg)" in card


def test_a_page_tells_runs_apart_and_what_speaks_against_their_figures(tmp_path: Path) -> None:
    quiet = REPORT["runs"][0]
    busy = quiet | {"threads": 4, "load": LOADED}
    busy |= {"workloads": [{**WORKLOAD, "verified-by": None}]}
    page = Page(REPO, is_trusted=True, reports=[{**REPORT, "kernel": "relu", "runs": [quiet, busy]}])
    card = render_card(make_release(tmp_path), page).decode()
    assert "2026-11-20, with an earlier build, while other programs ran\n" in card
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| `Forward")]
    assert [(row[1], row[-1]) for row in rows] == [("1", "yes |"), ("4", "no |")]


@pytest.mark.parametrize(
    "odd",
    [
        {"machine": "A CPU"},
        {"machine": {"cpu": "A", "torch": "2", "usable-cores": "x"}, "runs": [REPORT["runs"][0] | {"load": LOADED}]},
        {"machine": {"cpu": ["A"], "torch": "2"}},
        {"date": 2026},
        {"runs": []},
        {"runs": [{**REPORT["runs"][0], "workloads": [{**WORKLOAD, "name": 3}]}]},
        {"runs": [{**REPORT["runs"][0], "workloads": [{**WORKLOAD, "references": {"x": {"ratio": 1}}}]}]},
    ],
)
def test_reports_of_another_form_are_passed_over(odd: dict[str, Any], tmp_path: Path) -> None:
    page = Page(REPO, is_trusted=True, reports=[{**REPORT, "kernel": "relu", **odd}])
    assert "## Benchmarks" not in render_card(make_release(tmp_path), page).decode()


def test_times_that_nobody_can_have_measured_do_not_end_the_publishing(tmp_path: Path) -> None:
    spread = {"q1": -1, "median": float("nan"), "q3": float("inf")}
    workload = {**WORKLOAD, "kernel": {"samples": 7, "seconds": spread}}
    report = {**REPORT, "kernel": "relu", "runs": [{**REPORT["runs"][0], "workloads": [workload]}]}
    card = render_card(make_release(tmp_path), Page(REPO, is_trusted=True, reports=[report])).decode()
    assert "| `Forward.small` | 1 | nan s |" in card


def test_what_links_to_other_places_is_not_published(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / "benchmarks").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "report.json").write_text(json.dumps({**REPORT, "kernel": "relu"}), encoding="utf-8")
    (elsewhere / "plot.svg").write_text("<svg/>", encoding="utf-8")
    (project / "benchmarks" / "results").symlink_to(elsewhere)
    assert not find_figures(project)
    assert not find_reports(project, "relu")


def test_a_plot_has_a_name_that_a_page_can_carry(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for name in ("a).svg", "a\nb.svg", os.fsdecode(b"a\xff.svg")):
        (results / name).write_text("<svg/>", encoding="utf-8")
    assert [figure.path for figure in find_figures(tmp_path)] == ["benchmarks/a).svg"]


def test_equal_releases_have_equal_pages(tmp_path: Path) -> None:
    assert render(make_release(tmp_path / "a")) == render(make_release(tmp_path / "b"))


def test_digests_are_those_of_git_and_of_large_file_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    file = describe_file("x", tmp_path / "file")
    assert file == replace(describe_file("x", b"hello\n"), source=tmp_path / "file")
    assert file.git_oid == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert file.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
