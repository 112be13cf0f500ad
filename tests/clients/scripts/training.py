"""TRL's trainer on our attention from a registry, against `sdpa`: `training.py FOLDER`."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from tests.clients.published import FLASH, SINKS
from tests.clients.scripts.tiny import WORDS, save_model

LENGTHS = (12, 5, 20, 9, 16, 4)
ROWS = [
    {"text": " ".join(WORDS[3 + (7 * row + place) % 40] for place in range(length))}
    for row, length in enumerate(LENGTHS)
]
LAYOUTS: dict[str, dict[str, Any]] = {
    # Every step sees all documents, so that all layouts have the same loss: packing makes three rows of them.
    "padded": {"per_device_train_batch_size": 6},
    "padding-free": {"per_device_train_batch_size": 6, "padding_free": True, "max_length": None},
    "packed": {"per_device_train_batch_size": 3, "packing": True, "max_length": 32},
}


def losses(folder: str, name: str, layout: str) -> list[float]:
    arguments = SFTConfig(
        output_dir=f"{folder}/out",
        max_steps=3,
        learning_rate=1e-3,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=3,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        model_init_kwargs={"attn_implementation": name, "dtype": "float32"},
        **LAYOUTS[layout],
    )
    trainer = SFTTrainer(model=folder, args=arguments, train_dataset=Dataset.from_list(ROWS))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    warnings.simplefilter("ignore")
    folder = save_model(Path(sys.argv[1]))
    data = Path(folder) / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    names = {"sdpa": "sdpa", "flash": FLASH, "sinks": SINKS}
    answers = {
        key: {layout: losses(folder, name, layout) for layout in LAYOUTS if key != "sdpa" or layout == "padded"}
        for key, name in names.items()
    }
    sys.stdout.write("\n" + json.dumps(answers))


main()
