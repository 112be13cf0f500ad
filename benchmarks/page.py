"""The part of docs/benchmarks.md that is made from figures: what was measured, in tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = "docs/benchmarks.md"
_BEGIN = "<!-- measured: "
_END = "<!-- end of what was measured -->"
_SECTION = re.compile(rf"(?<={_BEGIN})(?P<place>\S+) -->\n.*?(?={_END})", re.DOTALL)
_GIB = 1 << 30
_OURS = ("flash-attn-kernel", "attn-sinks")
_TIMED_IN = {"cpu": "CPU time", "wall": "wall time"}


def write_page(page: Path, place: Path) -> None:
    """Put the tables of the figures in `place`, relative to the project, into their section of the page.

    A machine that has none yet gets one before the others.
    """
    text = page.read_text(encoding="utf-8")
    sections = list(_SECTION.finditer(text))
    if not sections:
        raise SystemExit(f"{page} has no section for what was measured")
    section = f"{place.as_posix()} -->\n{render_section(page.parents[1], place)}"
    for found in sections:
        if found["place"] == place.as_posix():
            page.write_text(text[: found.start()] + section + text[found.end() :], encoding="utf-8")
            return
    at = sections[0].start() - len(_BEGIN)
    page.write_text(f"{text[:at]}{_BEGIN}{section}{_END}\n\n{text[at:]}", encoding="utf-8")


def read_sections(page: Path) -> dict[Path, str]:
    """Return where the figures of the page lie, relative to the project, and their sections as they stand."""
    found = _SECTION.finditer(page.read_text(encoding="utf-8"))
    return {Path(section["place"]): section.group().partition("\n")[2] for section in found}


def render_section(root: Path, place: Path) -> str:
    """Return the section from the figures that are there."""
    figures = {
        each.stem: json.loads(each.read_text(encoding="utf-8")) for each in sorted((root / place).glob("*.json"))
    }
    parts = []
    for name, render in (
        ("attention", _render_attention),
        ("generate-1", _render_generation),
        ("generate-2", _render_generation),
        ("train", _render_training),
        ("first-use", _render_first_use),
        ("build-cuda", _render_build),
    ):
        if name in figures:
            parts.append(f"{render(figures[name])}\n\nFigures: [`{name}.json`](../{place.as_posix()}/{name}.json).\n")
    return "\n" + "\n".join(parts) + "\n"


def _render_attention(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    processor = f"{machine['cpu']} ({', '.join(machine['isa'])}; {machine['cores']} cores)"
    lines = [f"**Attention** on {processor}, torch {machine['torch']}, {report['date'][:10]}:", ""]
    for run in report["runs"]:
        rates = ", ".join(f"`{name}` {_as_rate(each)}" for name, each in run["ceilings"].items())
        load = run["load"]["before"]
        lines.append(f"* {_as_threads(run['threads'])}: {_TIMED_IN[run['clock']]}; {rates}; {_as_load(load)}")
    headings = ["case", "against", "goal", *(_as_threads(run["threads"]) for run in report["runs"])]
    lines += ["", "Median (quartiles) of what each case was, as times a reference or as a share of a ceiling; bold"]
    lines += ["where the goal is missed.", "", *_as_table(headings, _list_goals(report["runs"]))]
    return "\n".join(lines)


def _list_goals(runs: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    others = [{each["name"]: each for each in run["workloads"]} for run in runs]
    for workload in runs[0]["workloads"]:
        for goal in workload["goals"]:
            label = goal["against"]
            cells = [_as_seen(run, each.get(workload["name"]), label) for run, each in zip(runs, others, strict=True)]
            is_share = label in runs[0]["ceilings"]
            least = f"{goal['at-least']:.0%}" if is_share else f"{goal['at-least']:g}"
            yield [f"`{workload['name']}`", f"`{label}`", least, *cells]


def _as_seen(run: Mapping[str, Any], workload: Mapping[str, Any] | None, label: str) -> str:
    goals = {each["against"]: each for each in workload["goals"]} if workload is not None else {}
    if workload is None or label not in goals or goals[label]["seen"] is None:
        return "-"
    if label in run["ceilings"]:
        spread, form = workload["shares"][label], ".0%"
    else:
        spread, form = workload["references"][label]["ratio"], ".2f"
    text = f"{spread['median']:{form}} ({spread['q1']:{form}} .. {spread['q3']:{form}})"
    return text if goals[label]["met"] else f"**{text}**"


def _render_generation(figures: Mapping[str, Any]) -> str:
    labels = list(figures["cells"][0]["columns"])
    unit = "(Latency s / Tok/s / Alloc GiB / Reserved GiB)"
    cells, ratios = [], []
    for cell in figures["cells"]:
        columns = cell["columns"]
        size = [str(cell["batch"]), str(cell["tokens"])]
        cells.append([*size, *(_as_cell(columns[label]) for label in labels)])
        ratios.append([*size, *(_as_ratio(columns[label]["times-sdpa"]) for label in _OURS)])
    return "\n".join(
        [
            f"**Generation**, {figures['model']}; {_as_effort(figures)}:",
            "",
            *_as_table(["Batch", "Tokens", *(f"{label} {unit}" for label in labels)], cells),
            "",
            "Times as fast as `sdpa` in the same turn, median (quartiles); bold where slower:",
            "",
            *_as_table(["Batch", "Tokens", *_OURS], ratios),
        ]
    )


def _as_cell(column: Mapping[str, Any]) -> str:
    memory = f"{column['alloc-bytes'] / _GIB:.3f} / {column['reserved-bytes'] / _GIB:.3f}"
    return f"{column['latency-s']:.3f} / {column['tokens-per-s']:.1f} / {memory}"


def _as_ratio(quartiles: Sequence[float]) -> str:
    low, middle, high = quartiles
    text = f"{middle:.2f} ({low:.2f} .. {high:.2f})"
    return text if round(middle, 2) >= 1 else f"**{text}**"


def _render_training(figures: Mapping[str, Any]) -> str:
    rows = figures["rows"]
    base = next(row["step-s"][1] for row in rows if row["label"] == "sdpa")
    table = [
        [
            row["label"],
            f"{row['step-s'][1]:.3f} ({row['step-s'][0]:.3f} .. {row['step-s'][2]:.3f})",
            f"{row['tokens-per-s']:.0f}",
            f"{base / row['step-s'][1]:.2f}",
            f"{row['alloc-bytes'] / _GIB:.3f}",
            f"{row['loss']:.4f}",
        ]
        for row in rows
    ]
    return "\n".join(
        [
            f"**Supervised fine-tuning** in {figures['loop']}; the same model, {_as_effort(figures)}:",
            "",
            *_as_table(["implementation", "step s (quartiles)", "tok/s", "times sdpa", "alloc GiB", "loss"], table),
        ]
    )


def _render_first_use(figures: Mapping[str, Any]) -> str:
    build, own, prebuilt = figures["build-s"], figures["own-s"], figures["prebuilt-s"]
    table = [
        ["from source", f"{build:.1f}", f"{own:.2f}", f"{build + own:.1f}"],
        ["prebuilt artifact", "0", f"{prebuilt:.2f}", f"{prebuilt:.2f}"],
    ]
    return "\n".join(
        [
            f"**Time to first use**, {_as_load([figures['load-before']])}:",
            "",
            *_as_table(["way", "build s", "load and first call s", "time to first use s"], table),
        ]
    )


def _render_build(figures: Mapping[str, Any]) -> str:
    table = [
        [
            ", ".join(f"`{each}`" for each in figures["variants"]),
            f"{figures['wall-s']:.0f}",
            f"{figures['cpu-s']:.0f}",
            f"{figures['peak-bytes'] / (1 << 20):.0f}",
        ]
    ]
    load = _as_load([figures["load-before"]])
    return "\n".join(
        [
            f"**All kernels for {figures['backend'].upper()} from source** on {figures['cores']} cores, {load}:",
            "",
            *_as_table(["variants", "seconds", "CPU seconds", "most MiB of one process"], table),
        ]
    )


def _as_table(headings: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _as_threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _as_effort(figures: Mapping[str, Any]) -> str:
    load = _as_load([figures["load-before"]])
    return f"{figures['options']['prompt']} tokens of input, {_as_threads(figures['threads'])}, {load}"


def _as_load(load: Sequence[float] | None) -> str:
    return "load unknown" if load is None else f"load average before: {load[0]:.1f}"


def _as_rate(ceiling: Mapping[str, Any]) -> str:
    unit = "GFLOP/s" if ceiling["unit"] == "flop/s" else "GB/s"
    return f"{ceiling['rate']['median'] / 1e9:.1f} {unit}"
