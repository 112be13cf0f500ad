"""Our layers in models of several families, from a directory, against the layers that transformers spells out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kernels
import pytest
import torch
from kernels import LocalLayerRepository, Mode

from tests.clients.tiny_models import build_model, draw_tokens

MAPPED = {"RMSNorm": "RMSNorm", "SiLU": "SiLU", "rotary_pos_emb": "RotaryPosEmb"}
WHOLE = {"llama", "mistral", "qwen3"}
"""Families that register all three."""

MODES = (Mode.INFERENCE | Mode.TORCH_COMPILE, Mode.TRAINING | Mode.TORCH_COMPILE)


def _mapped(model: Any, repository: Path, mode: Mode) -> Any:
    table = {
        name: {"cpu": {mode: LocalLayerRepository(repository, layer_name=layer) for mode in MODES}}
        for name, layer in MAPPED.items()
    }
    with kernels.use_kernel_mapping(table, inherit_mapping=False):
        return kernels.kernelize(model, mode=mode, device="cpu")


def _ours(model: Any) -> set[str]:
    """Which of our layers some module, or function of a module, of the model has as its forward."""
    found = set()
    for module in model.modules():
        for each in (module, *getattr(module, "_kernel_funcs", {}).values()):
            forward = getattr(each.forward, "__func__", each.forward)
            if "flash_attn_kernel" in forward.__module__:
                found.add(forward.__qualname__.partition(".")[0])
    return found


def _gradients(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    model.train()
    model(tokens, labels=tokens).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gpt_oss", "deepseek_v3"])
def test_logits_and_gradients_stay(family: str, flash_repository: Path) -> None:
    tokens = draw_tokens(2, 24)
    plain = build_model(family, "eager")
    mapped = _mapped(build_model(family, "eager"), flash_repository, Mode.TRAINING)
    assert _ours(mapped) >= {"RMSNorm"} | (
        {"SiLU", "RotaryPosEmb"} if family in {"llama", "mistral", "qwen3"} else set()
    )
    with torch.no_grad():
        expected = plain(tokens).logits
        assert torch.allclose(mapped(tokens).logits, expected, atol=1e-4 * expected.abs().max().item())
    slopes = _gradients(plain, tokens)
    # A router's choice between two experts that are equally good may turn, but not in these models.
    assert torch.allclose(_gradients(mapped, tokens), slopes, atol=1e-3 * slopes.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_farther_from_fp32(flash_repository: Path, dtype: torch.dtype) -> None:
    tokens = draw_tokens(2, 24)
    with torch.no_grad():
        exact = build_model("qwen3", "eager")(tokens).logits
        plain = build_model("qwen3", "eager").to(dtype)(tokens).logits
        model = build_model("qwen3", "eager").to(dtype)
        mapped = _mapped(model, flash_repository, Mode.INFERENCE)(tokens).logits
    assert mapped.dtype == dtype
    assert (mapped - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_a_mapped_model_compiles_whole(flash_repository: Path) -> None:
    tokens = draw_tokens(2, 24)
    mapped = _mapped(build_model("llama", "sdpa"), flash_repository, Mode.INFERENCE | Mode.TORCH_COMPILE)
    with torch.no_grad():
        expected = mapped(tokens, use_cache=False).logits
        compiled: Any = torch.compile(mapped, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(tokens, use_cache=False).logits, expected, atol=1e-4)
