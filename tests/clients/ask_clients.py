"""Answer questions about kernels in a process of its own: `ask_clients.py '{"name": "expression", ...}'`."""

from __future__ import annotations

import json
import sys
import tempfile
from types import ModuleType
from typing import Any

import torch
from huggingface_hub import snapshot_download
from kernels import get_kernel, get_kernel_variants, has_kernel, install_kernel


def attend(kernel: ModuleType) -> tuple[int, ...]:
    """Return the shape of what the kernel's first function gives for a small problem."""
    q = torch.randn(1, 3, 2, 8)
    out = kernel.flash_attn_func(q, q, q)
    return tuple((out[0] if isinstance(out, tuple) else out).shape)


def logits(name: str, **settings: object) -> str:
    """Return what the logits of a model that is loaded with this attention are: `finite`, or not."""
    return _look(_load(attn_implementation=name, **settings))


def logits_after_switch(name: str, **settings: object) -> str:
    """Return the same of a model that is loaded with eager attention and switched."""
    model = _load(attn_implementation="eager")
    model.set_attn_implementation(name, **settings)
    return _look(model)


def logits_in_turns(first: str, second: str, **settings: object) -> str:
    """Return the same of the first of two models that live in one process, after the second one was loaded and ran."""
    models = [_load(attn_implementation=name, **settings) for name in (first, second)]
    return [_look(model) for model in reversed(models)][-1]


def _load(**settings: object) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig  # noqa: PLC0415 - half of a process without models

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder, **settings)


def _look(model: Any) -> str:
    return "finite" if torch.isfinite(model(torch.arange(8)[None]).logits).all() else "not finite"


def main() -> None:
    clients = (get_kernel, get_kernel_variants, has_kernel, install_kernel, snapshot_download)
    names = {
        function.__name__: function for function in (attend, logits, logits_after_switch, logits_in_turns, *clients)
    }
    answers = {}
    for question, expression in json.loads(sys.argv[1]).items():
        try:
            answers[question] = str(eval(expression, names))  # noqa: S307 - the test's own words
        except Exception as error:  # noqa: BLE001 - whatever a client raises is the answer
            answers[question] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(answers))


main()
