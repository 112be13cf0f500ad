"""The Metal binding end to end, from the Python functions to the shaders, which the emulator runs on CPU tensors."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.kernels.cases import CASES, AttentionCase
from tests.kernels.layer_cases import LAYER_CASES, LayerCase, check_layer
from tests.kernels.made_once import made_once
from tests.kernels.metal_emulated import compile_binding, load_emulated
from tests.kernels.running import check_forward, check_gradients
from tests.kernels.test_kvcache import CASES as CACHE_CASES
from tests.kernels.test_kvcache import check_cache

pytestmark = pytest.mark.compile

# The shaders' own tests have the wide heads and long walks; here it is the binding's turn.
QUICK = [c for c in CASES if max((*c.seqlens_q, *c.seqlens_k), default=0) <= 120 and c.head_dim <= 128]


@pytest.fixture(scope="module")
def metal(emulator_objects: list[Path], tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    with made_once(tmp_path_factory, "metal_binding") as (folder, is_made):
        if not is_made:
            compile_binding(folder, emulator_objects)
    return load_emulated(folder)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward(metal: ModuleType, case: AttentionCase) -> None:
    check_forward(metal, case, torch.float32)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_gradients(metal: ModuleType, case: AttentionCase) -> None:
    check_gradients(metal, case, torch.bfloat16, with_lse=True)


@pytest.mark.parametrize("name", CACHE_CASES)
def test_caches(metal: ModuleType, name: str) -> None:
    """New keys are appended, in place, to pages, rows picked or packed ones, and attended to."""
    check_cache(metal, CACHE_CASES[name], torch.float16)


@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
def test_layers(metal: ModuleType, case: LayerCase) -> None:
    check_layer(metal, case, torch.float32)


def test_partial_results_become_one(metal: ModuleType) -> None:
    q, k, v = torch.randn(3, 1, 40, 2, 16)
    whole, lse, _ = metal.flash_attn_func(q, k, v, return_attn_probs=True)
    halves = [metal.flash_attn_func(q, k[:, s], v[:, s], return_attn_probs=True) for s in (slice(25), slice(25, 40))]
    outs = torch.stack([out for out, _, _ in halves])
    lses = torch.stack([part.transpose(1, 2) for _, part, _ in halves])
    out, joined = metal._ops.ops.flash_attn_combine(outs, lses)
    torch.testing.assert_close(out, whole)
    torch.testing.assert_close(joined.transpose(1, 2), lse)


def test_storage_may_begin_before_its_tensor(metal: ModuleType) -> None:
    """A tensor is a buffer and an offset: views of one storage, each with its own."""
    storage = torch.randn(5, 1, 30, 2, 24)
    q, k, v = storage[1], storage[3], storage[4]
    expected = metal.flash_attn_func(q.clone(), k.clone(), v.clone(), causal=True)
    assert torch.equal(metal.flash_attn_func(q, k, v, causal=True), expected)
    rows = storage[2].flatten()
    silu = metal.layers.activation.silu
    assert torch.equal(silu(rows[7:]), silu(rows[7:].clone()))


def test_refusals_name_what_is_refused(metal: ModuleType) -> None:
    q, k, v = torch.randn(3, 1, 4, 2, 16)
    with pytest.raises(RuntimeError, match="probabilities of attention are returned on the CPU only"):
        metal.flash_attn_func(q, k, v, dropout_p=0.5, return_attn_probs=True)
    with pytest.raises(ValueError, match="`k` must have the dtype of `q`"):
        metal.flash_attn_func(q, k.half(), v)
