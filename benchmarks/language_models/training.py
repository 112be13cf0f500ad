"""Attention implementations in supervised fine-tuning: seconds of a step, tokens a second, memory, and the loss.

With TRL installed its `SFTTrainer` makes the steps, each implementation in a run of its own; without it a plain loop
does, in which the implementations take turns.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from importlib.util import find_spec
from itertools import pairwise
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
from language_models.turns import time_in_turns

_STEPS = 6


def measure_training(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every implementation; print the table; return the figures."""
    implementations = list_implementations(options.implementations)
    with_trl = find_spec("trl") is not None and not options.plain
    model = make_model(options.device, options.dtype)
    batch = make_prompts(model, options.batches[0], options.prompt, padded=options.padded)
    check_implementations(model, implementations, batch)
    rows = (_measure_trl if with_trl else _measure_plain)(model, implementations, batch, options)
    losses = [row["loss"] for row in rows]
    if not all(map(math.isfinite, losses)) or max(losses) - min(losses) > 1e-2 * max(losses):
        raise SystemExit(f"the losses differ: {', '.join(f'{loss:.4f}' for loss in losses)}")
    loop = "SFTTrainer of TRL" if with_trl else "a plain loop: forward, backward, AdamW"
    print(f"=== Attention Implementations in SFT ({loop}) ===")
    print(f"Model: {describe_model(model)}")
    print(f"Batch: {options.batches[0]} x {options.prompt} tokens{', half of every other padded' * options.padded}\n")
    print("| implementation | step s (quartiles) | tok/s | times sdpa | alloc GiB | reserved GiB | loss |")
    print("|---|---|---|---|---|---|---|")
    base = next((row["step-s"][1] for row in rows if row["label"] == "sdpa"), None)
    for row in rows:
        low, middle, high = row["step-s"]
        ratio = "-" if base is None else f"{base / middle:.2f}"
        memory = f"{row['alloc-bytes'] / GIB:.3f} | {row['reserved-bytes'] / GIB:.3f}"
        speed = f"{middle:.3f} ({low:.3f} .. {high:.3f}) | {row['tokens-per-s']:.0f}"
        print(f"| {row['label']} | {speed} | {ratio} | {memory} | {row['loss']:.4f} |")
    if options.device == "cpu":
        print(f"\n{CPU_LEGEND}")
    return {"loop": loop, "model": describe_model(model), "rows": rows}


def _measure_plain(
    model: Any, implementations: list[Implementation], batch: dict[str, torch.Tensor], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Let the implementations take turns on one model; the step is so small that the weights stay as they are."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-12, weight_decay=0.0)
    losses: dict[str, float] = {}
    model.train()

    def step(implementation: Implementation) -> None:
        loss = model(**batch, labels=_labels(batch)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses[implementation.label] = loss.item()

    calls = make_turns(model, implementations, step)
    seconds = time_in_turns(calls, options.min_time, options.turns)
    rows = []
    for label, call in calls.items():
        call.prepare()
        peak = measure_peak(call.call, options.device)
        rows.append(_make_row(label, seconds[label], batch, peak, losses[label]))
    return rows


def _measure_trl(
    model: Any, implementations: list[Implementation], batch: dict[str, torch.Tensor], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Let TRL train for a few steps with each implementation; the first step is not counted."""
    from datasets import Dataset  # noqa: PLC0415 - TRL brings it
    from tokenizers import Tokenizer  # noqa: PLC0415 - with TRL alone
    from tokenizers.models import WordLevel  # noqa: PLC0415 - with TRL alone
    from transformers import PreTrainedTokenizerFast, TrainerCallback  # noqa: PLC0415 - with TRL alone
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415 - mostly absent

    words = {f"w{number}": number for number in range(model.config.vocab_size)}
    special = {"pad_token": "w0", "eos_token": "w2", "unk_token": "w1"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, "w1")), **special)
    kept = batch["attention_mask"].bool()
    samples = [row[mask].tolist() for row, mask in zip(batch["input_ids"], kept, strict=True)] * _STEPS
    rows = []
    for each in implementations:
        model.set_attn_implementation(each.name)
        ends: list[float] = []

        class _Clock(TrainerCallback):  # type: ignore[misc, unused-ignore] # transformers is not typed here
            def on_step_begin(self, *_: Any, ends: list[float] = ends, **__: Any) -> None:
                ends.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as directory:
            config = SFTConfig(
                output_dir=directory,
                per_device_train_batch_size=len(batch["input_ids"]),
                max_steps=_STEPS,
                learning_rate=1e-12,
                logging_steps=1,
                report_to=[],
                save_strategy="no",
                use_cpu=options.device == "cpu",
                bf16=False,
                gradient_checkpointing=False,
                disable_tqdm=True,
                max_length=options.prompt,
            )
            trainer = SFTTrainer(
                model=model,
                args=config,
                train_dataset=Dataset.from_dict({"input_ids": samples}),
                processing_class=tokenizer,
                callbacks=[_Clock()],
            )
            peak = measure_peak(trainer.train, options.device)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        seconds = [after - before for before, after in pairwise(ends[1:])]
        rows.append(_make_row(each.label, seconds, batch, peak, losses[0]))
    return rows


def _labels(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the token ids, and -100 for padding, and for a first token: what comes before it is padding too."""
    known = batch["attention_mask"].bool()
    follows = torch.cat([torch.zeros_like(known[:, :1]), known[:, :-1]], dim=1)
    return batch["input_ids"].masked_fill(~(known & follows), -100)


def _make_row(
    label: str, seconds: list[float], batch: dict[str, torch.Tensor], peak: Peak, loss: float
) -> dict[str, Any]:
    tokens = int(batch["attention_mask"].sum())
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {
        "label": label,
        "step-s": (low, middle, high),
        "tokens-per-s": tokens / middle,
        "alloc-bytes": peak.allocated,
        "reserved-bytes": peak.reserved,
        "loss": loss,
    }
