"""`transformers.Trainer` on a padding-free batch: documents laid end to end, with their ends told to the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

from tests.clients.repositories import FLASH, FLASH_3, SINKS
from tests.clients.tiny_models import build_model, draw_tokens

LENGTHS = (12, 5, 20, 9, 16, 3)


def _documents() -> list[dict[str, list[int]]]:
    rows = [draw_tokens(1, length, seed=length)[0].tolist() for length in LENGTHS]
    return [{"input_ids": row, "labels": row} for row in rows]


def _pad(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(each["input_ids"]) for each in features)
    rows = [each["input_ids"] + [0] * (width - len(each["input_ids"])) for each in features]
    tokens = torch.tensor(rows)
    mask = (tokens != 0).long()
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}


def _losses(family: str, name: str, collator: Any, folder: Path, **settings: Any) -> list[float]:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=3,
        learning_rate=1e-3,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
        dataloader_pin_memory=False,
        **settings,
    )
    trainer = Trainer(build_model(family, name), arguments, data_collator=collator, train_dataset=_documents())
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("family", "name"),
    [("llama", FLASH), ("llama", SINKS), ("gpt_oss", SINKS), ("gpt_oss", FLASH_3)],
)
def test_padding_free_training_equals_eager_with_padding(family: str, name: str, tmp_path: Path) -> None:
    expected = _losses(family, "eager", _pad, tmp_path)
    assert len(expected) == 3
    assert expected[0] > expected[-1]
    told = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    guessed = DataCollatorWithFlattening()
    for collator in (_pad, told, guessed):
        assert _losses(family, name, collator, tmp_path) == pytest.approx(expected, rel=1e-4)


def test_gradient_checkpointing_changes_no_loss(tmp_path: Path) -> None:
    told = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    losses = [_losses("gpt_oss", SINKS, told, tmp_path, gradient_checkpointing=frugal) for frugal in (False, True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
