"""What `gpu_check.py` says in the end: a short table, what was wrong after it, and all of it as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def verdict(record: dict[str, Any], ceilings: dict[str, float]) -> str:
    """Return how ours stands to the goal, a share of the ceiling or a time; first of all whether it is right."""
    contenders = record["contenders"]
    if "ours" not in contenders:
        return "not run"
    if contenders["ours"]["wrong"]:
        return "WRONG"
    ours, goal = contenders["ours"]["rate"], record["goal"]
    if record["unit"] == "us":
        return f"{'met' if ours <= goal else 'missed'}: {ours:.1f} us of {goal:.0f}"
    share = ours / ceilings["product" if record["unit"] == "TFLOP/s" else "copy"]
    right = {name: one["rate"] for name, one in contenders.items() if not one["wrong"]}
    slower = [rival for rival in record["rivals"] if ours < right.get(rival, 0.0)]
    if not goal:
        return f"{share:.0%}"
    behind = f", behind {' and '.join(slower)}" if slower else ""
    return f"{'met' if share >= goal and not slower else 'missed'}: {share:.0%} of {goal:.0%}{behind}"


def _list_rates(record: dict[str, Any]) -> str:
    """Everybody's rate, and who did not run; wrong ones are marked."""
    contenders, missing = record["contenders"], record.get("missing", {})
    words = [f"{name} {one['rate']:.2f}{' (WRONG)' if one['wrong'] else ''}" for name, one in contenders.items()]
    listed = "  ".join(words) + f" {record['unit']}" + "".join(f"  {name}: not run" for name in missing)
    if "sinks" in contenders and "ours" in contenders:
        cost = contenders["ours"]["rate"] / contenders["sinks"]["rate"] - 1
        listed += f"  (sinks cost {cost:.1%})"
    return listed


def print_table(report: dict[str, Any]) -> None:
    """Print one line per workload: the kernels, the goal as a share of the run's ceiling, and everybody's rate."""
    ceilings = report.get("ceilings")
    print(f"{report['device']}, torch {report['torch']}, CUDA {report['cuda']}, cuDNN {report['cudnn']}", end="")
    print(f": product {ceilings['product']:.0f} TFLOP/s, copy {ceilings['copy']:.2f} TB/s" if ceilings else "")
    for record in report["workloads"]:
        if "stopped" in record or ceilings is None or not record["contenders"]:
            print(f"{record['workload']:<28} {record.get('stopped', '')}".rstrip())
            continue
        row = f"{record['workload']:<28} {record['kernels']:<8} {verdict(record, ceilings):<42}"
        print(row, _list_rates(record))
    print(f"sanitizer: {report.get('sanitizer', 'not run')}")
    for failure in report["failures"]:
        print(f"FAILED {failure}")
    print(f"{report['cases']} cases, {len(report['failures'])} failures in {report['seconds']:.0f} s", flush=True)


def finish(report: dict[str, Any], output: Path, seconds: float) -> None:
    """Keep the report, then print its table."""
    report["seconds"] = seconds
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print_table(report)
