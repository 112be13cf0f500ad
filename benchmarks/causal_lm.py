"""Attention in a causal language model: `generate`, `train` or `first-use`; `--help` lists the options of each.

    python benchmarks/causal_lm.py generate      latency, tokens/s and memory over batch sizes and token budgets
    python benchmarks/causal_lm.py train         the same in supervised fine-tuning, with TRL where it is installed
    python benchmarks/causal_lm.py first-use     building from source against loading a prebuilt artifact

On a GPU the model has the shape of SmolLM3-3B, on a CPU a small one; weights are random, nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from language_models.first_use import measure_first_use
from language_models.generation import measure_generation
from language_models.training import measure_training

COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "generate": measure_generation,
    "train": measure_training,
    "first-use": measure_first_use,
}
ON_GPU = {"batches": [1, 16, 32], "tokens": [512, 2048], "prompt": 64, "dtype": "bfloat16", "min_time": 2.0}
ON_CPU = {"batches": [1, 4, 8], "tokens": [32, 128], "prompt": 256, "dtype": "float32", "min_time": 2.0}


def count(text: str) -> int:
    """Return a number of things, of which there is one at least."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def parse_options() -> argparse.Namespace:
    """Return the options, those that were not given as they suit the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "--implementations",
        nargs="+",
        default=["eager", "sdpa", "flash-attn-kernel", "attn-sinks"],
        help="columns: what transformers has, our kernels' names, or any `owner/name` of a kernel that is here",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=count, help="batch sizes; `train` takes the first")
    parser.add_argument("--tokens", nargs="+", type=count, help="budgets of new tokens")
    parser.add_argument("--prompt", type=count, help="tokens of a prompt, or of a training sample")
    parser.add_argument("--padded", action="store_true", help="every other prompt is half as long, and padded")
    parser.add_argument("--plain", action="store_true", help="train in a plain loop also where TRL is installed")
    parser.add_argument("--threads", type=count, help="CPU threads")
    parser.add_argument("--min-time", type=float, help="seconds for each implementation in each cell")
    parser.add_argument("--turns", type=count, default=3, help="least turns of each implementation in each cell")
    parser.add_argument("--mem-repeats", type=count, default=3)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    if options.output is not None and not options.output.absolute().parent.is_dir():
        parser.error(f"--output: there is no directory `{options.output.absolute().parent}`")
    options.implementations = list(dict.fromkeys(options.implementations))
    for name, value in (ON_GPU if options.device == "cuda" else ON_CPU).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.dtype = getattr(torch, options.dtype)
    return options


def main() -> None:
    """Measure, print, and write the figures."""
    options = parse_options()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    figures = COMMANDS[options.command](options)
    cores = os.cpu_count() or 1
    busy = ": other programs ran meanwhile, these figures say little" if load > max(1.0, cores / 2) else ""
    print(f"\nLoad average before: {load:.1f} on {cores} cores{busy}")
    if options.output is not None:
        about = {
            "schema": 1,
            "command": options.command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "load-before": load,
            # Where the figures go is a matter of this machine.
            "options": {name: str(value) for name, value in sorted(vars(options).items()) if name != "output"},
        }
        options.output.write_text(json.dumps(about | figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
