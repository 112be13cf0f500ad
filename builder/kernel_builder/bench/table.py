"""A report as rows of text: what was measured, the goals, and the change since an older report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

HEADINGS = ("workload", "threads", "n", "median", "quartiles", "rate", "of ceiling", "against", "verified")
GOAL_HEADINGS = ("workload", "threads", "against", "goal", "seen", "")
CHANGE_HEADINGS = ("workload", "threads", "against", "then", "now", "change")

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))


def list_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row for each workload and number of threads, under `HEADINGS`."""
    for run in report["runs"]:
        for workload in run["workloads"]:
            timing = workload["kernel"]
            seconds = timing["seconds"]
            yield (
                workload["name"],
                str(run["threads"]),
                str(timing["samples"]),
                format_seconds(seconds["median"]),
                f"{format_seconds(seconds['q1'])} .. {format_seconds(seconds['q3'])}",
                _format_rate(workload),
                ", ".join(f"{share['median']:.0%} {name}" for name, share in workload["shares"].items()),
                ", ".join(
                    f"{each['ratio']['median']:.2f}x {label} ({each['ratio']['q1']:.2f} .. {each['ratio']['q3']:.2f})"
                    for label, each in workload["references"].items()
                ),
                {None: "no", "verify": "yes", "reference": "by its reference"}[workload["verified-by"]],
            )


def list_ceilings(report: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each run: its clock, its ceilings, the load."""
    for run in report["runs"]:
        rates = [
            f"{name} {format_rate(each['rate']['median'], each['unit'])}" for name, each in run["ceilings"].items()
        ]
        clock = "CPU time" if run["clock"] == "cpu" else "wall time"
        load = run["load"]["before"]
        told = [clock, *rates, *([] if load is None else [f"load average {load[0]:.1f} before"])]
        yield f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}: {', '.join(told)}"


def list_goal_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row for each goal that a benchmark declares, under `GOAL_HEADINGS`."""
    for run in report["runs"]:
        for workload in run["workloads"]:
            for goal in workload["goals"]:
                is_share = goal["against"] in run["ceilings"]
                yield (
                    workload["name"],
                    str(run["threads"]),
                    goal["against"],
                    f">= {_format_ratio(goal['at-least'], is_share=is_share)}",
                    "-" if goal["seen"] is None else _format_ratio(goal["seen"], is_share=is_share),
                    "met" if goal["met"] else "not measured" if goal["seen"] is None else "missed",
                )


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Ratios then and now of workloads that both reports have, under `CHANGE_HEADINGS`.

    Ratios within one run compare runs that were hours apart; times do not, so they are told last.
    """
    before = _index(old)
    for (threads, name), workload in _index(new).items():
        other = before.get((threads, name))
        if other is None:
            continue
        for label, each in workload["references"].items():
            if label in other["references"]:
                then, now = other["references"][label]["ratio"]["median"], each["ratio"]["median"]
                yield (name, str(threads), label, f"{then:.2f}x", f"{now:.2f}x", _format_change(now / then))
        for label, share in workload["shares"].items():
            if label in other["shares"]:
                then, now = other["shares"][label]["median"], share["median"]
                yield (name, str(threads), label, f"{then:.0%}", f"{now:.0%}", _format_change(now / then))
        then, now = other["kernel"]["seconds"]["median"], workload["kernel"]["seconds"]["median"]
        yield (name, str(threads), "time", format_seconds(then), format_seconds(now), _format_change(then / now))


def format_seconds(seconds: float) -> str:
    """Three digits and a unit, such as `1.23 ms`."""
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if seconds >= scale), (1.0, "s"))
    value = seconds / (scale or 1e-9)
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"  # noqa: PLR2004 - three digits


def format_rate(rate: float, unit: str) -> str:
    """In GFLOP/s or GB/s."""
    return f"{rate / 1e9:.4g} {'GFLOP/s' if unit.startswith('flop') else 'GB/s'}"


def _format_rate(workload: Mapping[str, Any]) -> str:
    rates = (("flop", workload["flop-rate"]), ("byte", workload["byte-rate"]))
    return ", ".join(format_rate(rate, unit) for unit, rate in rates if rate is not None)


def _format_ratio(ratio: float, *, is_share: bool) -> str:
    return f"{ratio:.0%}" if is_share else f"{ratio:.2f}x"


def _format_change(ratio: float) -> str:
    return f"{ratio - 1:+.1%}"


def _index(report: Mapping[str, Any]) -> dict[tuple[int, str], Mapping[str, Any]]:
    return {(run["threads"], workload["name"]): workload for run in report["runs"] for workload in run["workloads"]}
