"""The report of a benchmark: figures computed from samples, as the document that `--output` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernel_builder.artifact.model import Artifact
from kernel_builder.bench.running import BenchOptions
from kernel_builder.bench.spread import compute_ratios, compute_spread
from kernel_builder.bench.table import list_ceilings, list_changes, list_goal_rows, list_rows
from kernel_builder.errors import BadInputError, Problem

REPORT_SCHEMA = 1
"""Version of the document; it grows when a field changes its meaning or goes away."""

KERNEL = "kernel"
BUSY_LOAD = 0.5
"""Load average for each core, before a run began, from which its figures are those of a busy machine."""


def make_report(
    artifact: Artifact, digest: str, runs: Sequence[Mapping[str, Any]], options: BenchOptions, date: datetime
) -> dict[str, Any]:
    """Build the document. runs: what `run_benchmarks` gave; digest: of the artifact's files."""
    return {
        "schema": REPORT_SCHEMA,
        "kernel": artifact.metadata.name,
        "variant": str(artifact.variant),
        "artifact": digest,
        "date": date.astimezone(UTC).isoformat(timespec="seconds"),
        "options": {
            name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
            for name, value in asdict(options).items()
            if name != "threads"
        },
        "machine": runs[0]["machine"],
        "runs": [_describe_run(run) for run in runs],
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The document as text, one fact a line."""
    return json.dumps(report, indent=1) + "\n"


def load_report(file: Path) -> dict[str, Any]:
    """Read a document that `--output` wrote. Raises `BadInputError` when it is none, or of another version."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        version, has_runs = report["schema"], isinstance(report.get("runs"), list)
    except OSError as error:
        raise BadInputError(Problem(f"cannot read `{file}`: {error.strerror}")) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        report, version, has_runs = {}, None, False
    if has_runs and version != REPORT_SCHEMA:
        raise BadInputError(Problem(f"`{file}` has the schema `{version}`, this release reads `{REPORT_SCHEMA}`"))
    if not has_runs or not is_readable(report):
        raise BadInputError(Problem(f"`{file}` is not a benchmark report", hint="`--output` writes them"))
    return dict(report)


def is_readable(report: Mapping[str, Any]) -> bool:
    """Whether all that is ever shown of a report can be: somebody else may have written it."""
    try:
        rows = [*list_rows(report), *list_ceilings(report), *list_goal_rows(report), *list_changes(report, report)]
        texts = [each for row in rows for each in row]
        texts += [report["kernel"], report["artifact"], report["date"]]
        texts += [report["machine"][name] for name in ("cpu", "torch")]
        any(is_busy(run, report["machine"]["usable-cores"]) for run in report["runs"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False
    return all(isinstance(text, str) for text in texts)


def is_busy(run: Mapping[str, Any], cores: int) -> bool:
    """Whether other programs ran when a run began, so that its figures say little."""
    before = run["load"]["before"]
    return before is not None and before[0] > max(1.0, BUSY_LOAD * cores)


def _describe_run(run: Mapping[str, Any]) -> dict[str, Any]:
    ceilings = {}
    for name, ceiling in run["ceilings"].items():
        seconds = [each for workload in run["workloads"] for each in workload["seconds"].get(name, ())]
        if seconds:
            rates = compute_spread([ceiling["work"] / each for each in seconds])
            ceilings[name] = {"unit": f"{ceiling['unit']}/s", "rate": rates.as_json(), "samples": len(seconds)}
    return {
        "threads": run["threads"],
        "device": run["device"],
        "clock": run["clock"],
        "load": run["load"],
        "ceilings": ceilings,
        "workloads": [_describe_workload(workload, run["ceilings"]) for workload in run["workloads"]],
    }


def _describe_workload(workload: Mapping[str, Any], ceilings: Mapping[str, Any]) -> dict[str, Any]:
    seconds = workload["seconds"]
    own = seconds[KERNEL]
    median = compute_spread(own).median
    references = {
        label: {**_describe_timing(workload, label), "ratio": compute_ratios(seconds[label], own).as_json()}
        for label in workload["references"]
    }
    shares = {}
    for name in [label for label in seconds if label in ceilings]:
        work = workload["bytes" if ceilings[name]["unit"] == "byte" else "flops"]
        relative = work / ceilings[name]["work"]
        shares[name] = compute_ratios([relative * each for each in seconds[name]], own).as_json()
    seen = {label: each["ratio"]["median"] for label, each in references.items()}
    seen |= {name: share["median"] for name, share in shares.items()}
    return {
        "name": workload["name"],
        "file": workload["file"],
        "dtype": workload["dtype"],
        "flops": workload["flops"],
        "bytes": workload["bytes"],
        "verified-by": workload["verified-by"],
        "kernel": _describe_timing(workload, KERNEL),
        "flop-rate": None if workload["flops"] is None else float(f"{workload['flops'] / median:.6g}"),
        "byte-rate": None if workload["bytes"] is None else float(f"{workload['bytes'] / median:.6g}"),
        "references": references,
        "shares": shares,
        "goals": [
            {
                "against": against,
                "at-least": least,
                "seen": seen.get(against),
                "met": against in seen and seen[against] >= least,
            }
            for against, least in workload["goals"].items()
        ],
    }


def _describe_timing(workload: Mapping[str, Any], label: str) -> dict[str, Any]:
    return {
        "samples": len(workload["seconds"][label]),
        "calls": workload["calls"][label],
        "seconds": compute_spread(workload["seconds"][label]).as_json(),
        "least-seconds": float(f"{min(workload['seconds'][label]):.6g}"),
        "busy-cpus": round(compute_spread(workload["busy"][label]).median, 2),
    }
