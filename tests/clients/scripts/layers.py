"""The layers of our kernel in a model: mapped, switched between modes, and refused; `layers.py FOLDER`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from kernels import LayerRepository, Mode, register_kernel_mapping
from transformers import AutoModelForCausalLM, KernelConfig

from tests.clients.published import ELSEWHERE, FLASH, SINKS
from tests.clients.scripts.tiny import save_model

MAPPED = {"RMSNorm": "RMSNorm", "SiLU": "SiLU", "rotary_pos_emb": "RotaryPosEmb"}
INPUT_IDS = torch.arange(3, 19)[None]
RMS = f"{FLASH}:RMSNorm"
REFUSED: dict[str, dict[str, Any]] = {
    "string": {"RMSNorm": RMS},
    "device": {"RMSNorm": {"cpu": RMS}},
    "empty string": {"RMSNorm": ""},
    "attention": {"LlamaAttention": f"{FLASH}:FlashAttention2"},
}


def mapping_of(repository: str, device: str = "cpu", **which: Any) -> dict[str, Any]:
    modes = (Mode.INFERENCE | Mode.TORCH_COMPILE, Mode.TRAINING | Mode.TORCH_COMPILE)
    return {
        name: {device: {mode: LayerRepository(repository, layer_name=layer, **which) for mode in modes}}
        for name, layer in MAPPED.items()
    }


def load(folder: str, **settings: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **settings)


def ours(model: Any) -> dict[str, int]:
    """How many modules, and functions of modules, have a forward that comes from one of our kernels."""
    counts = dict.fromkeys(MAPPED, 0)
    for module in model.modules():
        for each in (module, *getattr(module, "_kernel_funcs", {}).values()):
            forward = getattr(each, "forward", None)
            name = getattr(type(each), "kernel_layer_name", None)
            home = getattr(forward, "__func__", forward).__module__
            if name in counts and ("flash_attn_kernel" in home or "attn_sinks" in home):
                counts[name] += 1
    return counts


def results(model: Any) -> torch.Tensor:
    """Logits in evaluation, then all gradients in training, in one row."""
    model.eval()
    with torch.no_grad():
        logits = model(INPUT_IDS).logits
    model.train()
    model(INPUT_IDS, labels=INPUT_IDS).loss.backward()
    return torch.cat([logits.flatten(), *(parameter.grad.flatten() for parameter in model.parameters())])


def refusal(folder: str, mapping: dict[str, Any]) -> str:
    try:
        load(folder, use_kernels=True, kernel_config=KernelConfig(mapping))
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the answer
        return f"{type(error).__name__}: {error}"
    return "none"


def main() -> None:
    logging.getLogger("kernels").setLevel(logging.ERROR)
    folder = save_model(Path(sys.argv[1]))
    plain = results(load(folder))
    # With nothing of ours mapped; where USE_HUB_KERNELS forbids it, that is also how it stays.
    answers: dict[str, Any] = {"unmapped": ours(load(folder, use_kernels=True))}
    # `use_kernels` registers its own table first, and keeps what is added to it.
    for name, mapping in {
        "flash": mapping_of(FLASH, version=1),
        "sinks": mapping_of(SINKS, revision="v1"),
    }.items():
        register_kernel_mapping(mapping, inherit_mapping=False)
        model = load(folder, use_kernels=True, attn_implementation=FLASH)
        counts = ours(model)
        error = (results(model) - plain).abs().max().item()
        answers[name] = {"eval": counts, "train": ours(model), "error": error}
    register_kernel_mapping(mapping_of(FLASH, "cuda", version=1), inherit_mapping=False)
    answers["other device"] = ours(load(folder, use_kernels=True))
    register_kernel_mapping(mapping_of(ELSEWHERE, version=1), inherit_mapping=False)
    model = load(folder, use_kernels=True)
    answers["no variant"] = {"eval": ours(model), "error": (results(model) - plain).abs().max().item()}
    register_kernel_mapping(mapping_of(FLASH, version=1), inherit_mapping=False)
    answers["off"] = ours(load(folder))
    answers["refused"] = {key: refusal(folder, mapping) for key, mapping in REFUSED.items()}
    sys.stdout.write("\n" + json.dumps(answers))


main()
