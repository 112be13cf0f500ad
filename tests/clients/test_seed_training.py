"""The seeds' training: TRL's trainer and command on our attention, in every layout of a batch."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.published import FLASH, Published


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def losses(published: Published, model: Path) -> dict[str, Any]:
    return published.answers("training.py", str(model))


@pytest.mark.parametrize("name", ["flash", "sinks"])
@pytest.mark.parametrize("layout", ["padded", "padding-free", "packed"])
def test_the_trainer_has_the_losses_of_sdpa(losses: dict[str, Any], name: str, layout: str) -> None:
    expected = losses["sdpa"]["padded"]
    assert len(expected) == 3
    assert expected[0] > expected[-1]
    assert losses[name][layout] == pytest.approx(expected, rel=1e-4)


def test_the_command_has_them_too(losses: dict[str, Any], published: Published, model: Path) -> None:
    options = {
        "model_name_or_path": model,
        "dataset_name": model / "data",
        "attn_implementation": FLASH,
        "output_dir": model / "command",
        "dtype": "float32",
        "bf16": "false",
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 3,
        "max_length": 32,
        "gradient_checkpointing": "false",
        "report_to": "none",
        "save_strategy": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = published.run(str(Path(sys.executable).with_name("trl")), "sft", *words, "--use_cpu", "--packing")
    assert done.returncode == 0, done.stderr
    logged = [float(loss) for loss in re.findall(r"'loss': '([0-9.]+)'", done.stdout)]
    assert logged == pytest.approx(losses["sdpa"]["padded"], rel=1e-3)  # it prints four digits
    assert json.loads((model / "command" / "config.json").read_text(encoding="utf-8"))["model_type"] == "llama"
