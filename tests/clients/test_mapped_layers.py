"""Our layers in models of several families, from a directory, against the layers that transformers spells out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kernels
import pytest
import torch
from kernels import LocalLayerRepository, Mode

from tests.clients.tiny_models import build_model, draw_tokens

MAPPED = {"RMSNorm": "RMSNorm", "SiLU": "SiLU", "rotary_pos_emb": "RotaryPosEmb"}
NOT_IN_GPT_OSS = {"rotary_pos_emb"}
WHOLE = {"llama", "mistral", "qwen3"}
"""Families that register all three."""

MODES = (Mode.INFERENCE | Mode.TORCH_COMPILE, Mode.TRAINING | Mode.TORCH_COMPILE)


@pytest.fixture(name="map_layers")
def _map_layers(flash_repository: Path) -> Iterator[Callable[[Any, Mode], Any]]:
    """Map a model's layers to ours, and back in the end: the rotary function is one for all models of its kind."""
    mapped = []

    def map_layers(model: Any, mode: Mode) -> Any:
        names = set(MAPPED) - (NOT_IN_GPT_OSS if model.config.model_type == "gpt_oss" else set())
        table = {
            name: {"cpu": {mode: LocalLayerRepository(flash_repository, layer_name=MAPPED[name]) for mode in MODES}}
            for name in names
        }
        mapped.append(model)
        with kernels.use_kernel_mapping(table, inherit_mapping=False):
            return kernels.kernelize(model, mode=mode, device="cpu")

    yield map_layers
    with kernels.use_kernel_mapping({}, inherit_mapping=False):
        for model in mapped:
            kernels.kernelize(model, mode=Mode.INFERENCE, device="cpu")
            assert not _ours(model)


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
def test_logits_and_gradients_stay(family: str, map_layers: Callable[[Any, Mode], Any]) -> None:
    tokens = draw_tokens(2, 24)
    plain = build_model(family, "eager")
    with torch.no_grad():
        expected = plain(tokens).logits
    slopes = _gradients(plain, tokens)
    mapped = map_layers(build_model(family, "eager"), Mode.TRAINING)
    assert _ours(mapped) >= ({"RMSNorm", "SiLU", "RotaryPosEmb"} if family in WHOLE else {"RMSNorm"})
    with torch.no_grad():
        assert torch.allclose(mapped(tokens).logits, expected, atol=1e-4 * expected.abs().max().item())
    # A router's choice between two experts that are equally good may turn, but not in these models.
    assert torch.allclose(_gradients(mapped, tokens), slopes, atol=1e-3 * slopes.abs().max().item())


def test_a_rotation_of_another_kind_is_refused(flash_repository: Path) -> None:
    """GPT-OSS registers its own under the same name."""
    model = build_model("gpt_oss", "eager")
    layer = LocalLayerRepository(flash_repository, layer_name="RotaryPosEmb")
    with kernels.use_kernel_mapping({"rotary_pos_emb": {"cpu": {Mode.INFERENCE: layer}}}, inherit_mapping=False):
        kernels.kernelize(model, mode=Mode.INFERENCE, device="cpu")
        with pytest.raises(ValueError, match="do not map this model's rotary"):
            model(draw_tokens(1, 4))
    with kernels.use_kernel_mapping({}, inherit_mapping=False):
        kernels.kernelize(model, mode=Mode.INFERENCE, device="cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_farther_from_fp32(dtype: torch.dtype, map_layers: Callable[[Any, Mode], Any]) -> None:
    tokens = draw_tokens(2, 24)
    with torch.no_grad():
        exact = build_model("qwen3", "eager")(tokens).logits
        plain = build_model("qwen3", "eager").to(dtype)(tokens).logits
        mapped = map_layers(build_model("qwen3", "eager").to(dtype), Mode.INFERENCE)(tokens).logits
    assert mapped.dtype == dtype
    assert (mapped - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_a_mapped_model_compiles_whole(map_layers: Callable[[Any, Mode], Any]) -> None:
    tokens = draw_tokens(2, 24)
    mapped = map_layers(build_model("llama", "sdpa"), Mode.INFERENCE | Mode.TORCH_COMPILE)
    with torch.no_grad():
        expected = mapped(tokens, use_cache=False).logits
        compiled: Any = torch.compile(mapped, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(tokens, use_cache=False).logits, expected, atol=1e-4)
