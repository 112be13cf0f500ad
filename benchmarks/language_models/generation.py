"""The table of generation: latency, tokens a second and memory, over batch sizes and budgets of new tokens."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch

from language_models.memory import CPU_LEGEND, GIB, Peak, measure_peak
from language_models.models import (
    Implementation,
    check_implementations,
    describe_model,
    list_implementations,
    make_model,
    make_prompts,
    make_turns,
)
from language_models.turns import Turn, paired_ratio, time_in_turns, uses_cpu_time


def measure_generation(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every cell; print the tables; return the figures."""
    implementations = list_implementations(options.implementations)
    model = make_model(options.device, options.dtype)
    cells = [
        _measure_cell(model, implementations, batch, tokens, options)
        for tokens in options.tokens
        for batch in options.batches
    ]
    title = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    _print_head(title, describe_model(model), options)
    _print_cells(cells, implementations, options.device)
    _print_legend(implementations, options.device)
    _print_ratios(cells, implementations)
    return {"model": describe_model(model), "cells": cells}


def _measure_cell(
    model: Any, implementations: list[Implementation], batch: int, tokens: int, options: argparse.Namespace
) -> dict[str, Any]:
    prompts = make_prompts(model, batch, options.prompt, padded=options.padded)
    check_implementations(model, implementations, prompts)
    calls = make_turns(model, implementations, lambda each: _generate(model, each, prompts, tokens))
    seconds = time_in_turns(calls, options.min_time, options.turns)
    cell: dict[str, Any] = {"batch": batch, "tokens": tokens, "columns": {}}
    for label, call in calls.items():
        peaks = [_measure_peak(call, options.device) for _ in range(options.mem_repeats)]
        latency = statistics.median(seconds[label])
        cell["columns"][label] = {
            "latency-s": latency,
            "tokens-per-s": batch * tokens / latency,
            "alloc-bytes": max(peak.allocated for peak in peaks),
            "reserved-bytes": max(peak.reserved for peak in peaks),
            "turns": len(seconds[label]),
            "times-sdpa": paired_ratio(seconds["sdpa"], seconds[label]) if "sdpa" in seconds else None,
        }
    return cell


def _measure_peak(turn: Turn, device: str) -> Peak:
    turn.prepare()
    return measure_peak(turn.call, device)


@torch.no_grad()
def _generate(model: Any, implementation: Implementation, prompts: dict[str, torch.Tensor], tokens: int) -> None:
    out = model.generate(**prompts, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    made = out.shape[1] - prompts["input_ids"].shape[1]
    if made != tokens:
        raise SystemExit(f"`{implementation.label}` generated {made} tokens, not {tokens}")


def _print_head(title: str, model: str, options: argparse.Namespace) -> None:
    padding = ", every other one half as long" if options.padded else ""
    print(f"=== Throughput & Memory Comparison ({title}) ===")
    print(f"Model: {model}")
    print(f"Token budgets: {options.tokens}")
    print(f"Batch sizes: {options.batches}")
    print(f"Prompts of {options.prompt} tokens{padding}")
    clock = "CPU time" if uses_cpu_time() else "wall time"
    print(f"{clock}, turns in random order, min_run_time={options.min_time}s, at least {options.turns}", end="")
    print(f" | mem_repeats={options.mem_repeats}\n")


def _print_cells(cells: list[dict[str, Any]], implementations: list[Implementation], device: str) -> None:
    unit = "(Latency s / Tok/s / Alloc GiB / Reserved GiB)"
    headings = ["Batch", "Tokens", *(f"{each.label} {unit}" for each in implementations)]
    print(f"| {' | '.join(headings)} |")
    print(f"|{'|'.join('-' * (len(heading) + 2) for heading in headings)}|")
    digits = 2 if device == "cuda" else 3
    for cell in cells:
        texts = [
            f"{each['latency-s']:.3f} / {each['tokens-per-s']:.1f} / {each['alloc-bytes'] / GIB:.{digits}f}"
            f" / {each['reserved-bytes'] / GIB:.{digits}f}"
            for each in cell["columns"].values()
        ]
        words = [str(cell["batch"]), str(cell["tokens"]), *texts]
        padded = [word.ljust(len(heading)) for word, heading in zip(words, headings, strict=True)]
        print(f"| {' | '.join(padded)} |")


def _print_legend(implementations: list[Implementation], device: str) -> None:
    print("\n**Legend:**  ")
    for each in implementations:
        print(f"- {each.label} = `attn_implementation={each.name}`  ")
    print("- Each cell: `Median Latency (s) / Tokens/s / Peak Alloc (GiB) / Peak Reserved (GiB)`")
    if device == "cpu":
        print(f"- {CPU_LEGEND}")


def _print_ratios(cells: list[dict[str, Any]], implementations: list[Implementation]) -> None:
    ours = [each.label for each in implementations if "/" in each.name]
    if not ours or cells[0]["columns"][ours[0]]["times-sdpa"] is None:
        return
    print("\nTimes as fast as sdpa in the same turn, median (quartiles); the goal is never below 1:\n")
    print(f"| Batch | Tokens | {' | '.join(ours)} |")
    print(f"|-------|--------|{'|'.join('-' * (len(label) + 2) for label in ours)}|")
    for cell in cells:
        texts = []
        for label in ours:
            low, middle, high = cell["columns"][label]["times-sdpa"]
            texts.append(f"{middle:.2f} ({low:.2f} .. {high:.2f})")
        print(f"| {cell['batch']:<5} | {cell['tokens']:<6} | {' | '.join(texts)} |")
