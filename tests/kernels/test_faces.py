"""The two faces as other people's programs see them: names, signatures, return values, documented examples."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SINK_NAMES = ["s_aux", "learnable_sink", "sinks"]
FLASH_2 = {
    "flash_attn_func": "q k v dropout_p softmax_scale causal window_size softcap alibi_slopes deterministic"
    " return_attn_probs",
    "flash_attn_varlen_func": "q k v cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k dropout_p softmax_scale causal"
    " window_size softcap alibi_slopes deterministic return_attn_probs block_table",
    "flash_attn_qkvpacked_func": "qkv dropout_p softmax_scale causal window_size softcap alibi_slopes deterministic"
    " return_attn_probs",
    "flash_attn_kvpacked_func": "q kv dropout_p softmax_scale causal window_size softcap alibi_slopes deterministic"
    " return_attn_probs",
    "flash_attn_varlen_qkvpacked_func": "qkv cu_seqlens max_seqlen dropout_p softmax_scale causal window_size softcap"
    " alibi_slopes deterministic return_attn_probs",
    "flash_attn_varlen_kvpacked_func": "q kv cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k dropout_p"
    " softmax_scale causal window_size softcap alibi_slopes deterministic return_attn_probs",
    "flash_attn_with_kvcache": "q k_cache v_cache k v rotary_cos rotary_sin cache_seqlens cache_batch_idx cache_leftpad"
    " block_table softmax_scale causal window_size softcap rotary_interleaved alibi_slopes num_splits"
    " return_softmax_lse",
    "fwd": "q k v out alibi_slopes p_dropout softmax_scale is_causal window_size_left window_size_right softcap"
    " return_softmax gen",
    "varlen_fwd": "q k v cu_seqlens_q cu_seqlens_k out seqused_k leftpad_k block_table alibi_slopes max_seqlen_q"
    " max_seqlen_k p_dropout softmax_scale zero_tensors is_causal window_size_left window_size_right softcap"
    " return_softmax gen",
    "bwd": "dout q k v out softmax_lse dq dk dv alibi_slopes p_dropout softmax_scale is_causal window_size_left"
    " window_size_right softcap deterministic gen rng_state",
    "varlen_bwd": "dout q k v out softmax_lse cu_seqlens_q cu_seqlens_k dq dk dv alibi_slopes max_seqlen_q max_seqlen_k"
    " p_dropout softmax_scale zero_tensors is_causal window_size_left window_size_right softcap deterministic gen"
    " rng_state",
    "fwd_kvcache": "q kcache vcache k v seqlens_k rotary_cos rotary_sin cache_batch_idx leftpad_k block_table"
    " alibi_slopes out softmax_scale is_causal window_size_left window_size_right softcap is_rotary_interleaved"
    " num_splits",
}
FLASH_3_TAIL = " num_splits pack_gqa deterministic sm_margin s_aux cp_world_size cp_rank cp_tot_seqused_k"
FLASH_3 = {
    "flash_attn_func": "q k v softmax_scale causal qv q_descale k_descale v_descale window_size softcap" + FLASH_3_TAIL,
    "flash_attn_varlen_func": "q k v cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k seqused_q seqused_k"
    " softmax_scale causal qv q_descale k_descale v_descale window_size softcap" + FLASH_3_TAIL,
    "flash_attn_qkvpacked_func": "qkv softmax_scale causal q_descale k_descale v_descale window_size softcap"
    " deterministic num_heads_q",
    "flash_attn_with_kvcache": "q k_cache v_cache k v qv rotary_cos rotary_sin cache_seqlens cache_batch_idx"
    " cache_leftpad page_table cu_seqlens_q cu_seqlens_k_new max_seqlen_q rotary_seqlens q_descale k_descale v_descale"
    " softmax_scale causal window_size softcap rotary_interleaved scheduler_metadata num_splits pack_gqa sm_margin"
    " return_softmax_lse s_aux cp_world_size cp_rank cp_tot_seqused_k",
    "flash_attn_combine": "out_partial lse_partial out out_dtype",
}


def _positional(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY]


@pytest.mark.parametrize("name", FLASH_2)
def test_signatures_of_flash_attention_2(flash: ModuleType, name: str) -> None:
    function = getattr(flash, name)
    assert _positional(function) == FLASH_2[name].split()
    expected = ["s_aux"] if "fwd" in name else [] if "bwd" in name else SINK_NAMES
    parameters = inspect.signature(function).parameters
    assert [each for each in SINK_NAMES if each in parameters] == expected


@pytest.mark.parametrize("name", FLASH_3)
def test_signatures_of_vllm_flash_attention_3(sinks: ModuleType, name: str) -> None:
    assert _positional(getattr(sinks.flash_attn3_interface, name)) == FLASH_3[name].split()


def test_what_each_face_exports(flash: ModuleType, sinks: ModuleType) -> None:
    """Transformers looks for `flash_attn_varlen_func` first, so the second face must not have it."""
    assert sorted(flash.__all__) == sorted([*FLASH_2, "layers"])
    assert not hasattr(sinks, "flash_attn_varlen_func")
    assert sinks.supports_flash_attn
    for module in (flash, sinks):
        assert all(hasattr(module, name) for name in module.__all__)
        assert module.layers.__all__ == ["RMSNorm", "RotaryPosEmb", "SiLU", "SiluAndMul"]


def test_the_sources_run_where_a_kernel_must(flash: ModuleType, sinks: ModuleType) -> None:
    """Python 3.9 syntax; imports of the standard library, torch and the kernel itself, relatively."""
    for module in (flash, sinks):
        for path in Path(str(module.__file__)).parent.rglob("*.py"):
            tree = ast.parse(path.read_text(), feature_version=(3, 9))
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [str(node.module)]
                roots = {name.split(".")[0] for name in names}
                assert roots <= {"torch", *sys.stdlib_module_names}, path.name


def _by_torch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool) -> torch.Tensor:
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(-3, -2)


def test_the_card_of_flash_attention(flash: ModuleType) -> None:
    """What the public card of flash-attn shows: fp16, one tensor as q, k and v, raw functions, three comparisons."""
    q = k = v = torch.randn(2, 5, 4, 8, dtype=torch.float16)
    for causal in (False, True):
        out = flash.fwd(q=q, k=k, v=v, is_causal=causal)[0]
        assert torch.allclose(out, _by_torch(q, k, v, causal=causal), atol=1e-2, rtol=1e-3)
    q = torch.randn(10, 4, 8, dtype=torch.float16)
    k = v = torch.randn(12, 4, 8, dtype=torch.float16)
    bounds_q, bounds_k = torch.tensor([0, 3, 7, 10], dtype=torch.int32), torch.tensor([0, 4, 9, 12], dtype=torch.int32)
    lengths = {"cu_seqlens_q": bounds_q, "cu_seqlens_k": bounds_k, "max_seqlen_q": 4, "max_seqlen_k": 5}
    out = flash.varlen_fwd(q=q, k=k, v=v, **lengths)[0]
    parts = zip(q.tensor_split((3, 7)), k.tensor_split((4, 9)), strict=True)
    expected = torch.cat([_by_torch(rows, keys, keys, causal=False) for rows, keys in parts])
    assert torch.allclose(out, expected, atol=1e-2, rtol=1e-3)


def test_the_card_of_vllm_flash_attention_3(sinks: ModuleType) -> None:
    """What its public card shows: bf16, more keys than queries, a pair as the result."""
    q = torch.randn(2, 128, 8, 64, dtype=torch.bfloat16)
    k, v = torch.randn(2, 2, 256, 8, 64, dtype=torch.bfloat16)
    output, lse = sinks.flash_attn_func(q, k, v, causal=True)
    assert (output.shape, lse.shape) == ((2, 128, 8, 64), (2, 8, 128))


def test_packed_functions_are_the_plain_ones(flash: ModuleType) -> None:
    qkv, bounds = torch.randn(2, 9, 3, 4, 16), torch.tensor([0, 9, 18], dtype=torch.int32)
    q, k, v = qkv.unbind(2)
    options = {
        "causal": True,
        "window_size": (4, 0),
        "softcap": 5.0,
        "alibi_slopes": torch.rand(4),
        "sinks": torch.ones(4),
    }
    expected = flash.flash_attn_func(q, k, v, **options)
    assert torch.equal(flash.flash_attn_qkvpacked_func(qkv, **options), expected)
    assert torch.equal(flash.flash_attn_kvpacked_func(q, qkv[:, :, 1:], **options), expected)
    flat = qkv.flatten(0, 1)
    packed = flash.flash_attn_varlen_qkvpacked_func(flat, bounds, 9, **options)
    assert torch.equal(packed.view_as(expected), expected)
    packed = flash.flash_attn_varlen_kvpacked_func(flat[:, 0], flat[:, 1:], bounds, bounds, 9, 9, **options)
    assert torch.equal(packed.view_as(expected), expected)


@pytest.mark.parametrize("name", SINK_NAMES)
def test_sinks_under_each_name(flash: ModuleType, name: str) -> None:
    q, k, v, logits = *(torch.randn(2, 9, 2, 16) for _ in range(3)), torch.randn(2)
    expected, _, _, _ = flash.attention.attend(q, k, v, sinks=logits)
    assert torch.equal(flash.flash_attn_func(q, k, v, **{name: logits}), expected)
    assert torch.equal(flash.flash_attn_with_kvcache(q, k, v, **{name: logits}), expected)
    bounds = torch.tensor([0, 9, 18], dtype=torch.int32)
    flat = (x.flatten(0, 1) for x in (q, k, v))
    packed = flash.flash_attn_varlen_func(*flat, bounds, bounds, 9, 9, **{name: logits})
    assert torch.equal(packed.view_as(expected), expected)


def test_windows_in_every_form(flash: ModuleType) -> None:
    q, k, v = (torch.randn(1, 20, 2, 16) for _ in range(3))
    expected = flash.flash_attn_func(q, k, v, window_size=(3, 5))
    for window in ([3, 5], torch.tensor([3, 5]), (torch.tensor(3), 5)):
        assert torch.equal(flash.flash_attn_func(q, k, v, window_size=window), expected)
    unbounded = flash.flash_attn_func(q, k, v)
    for no_window in (None, (None, None), (-1, -1)):
        assert torch.equal(flash.flash_attn_func(q, k, v, window_size=no_window), unbounded)
    assert torch.equal(flash.flash_attn_func(q, k, v, softcap=-1.0), unbounded)


def test_probabilities_only_with_dropout(flash: ModuleType) -> None:
    """Who asks for them mostly wants the log-sum-exp; a square matrix would be a poor gift."""
    q, k, v = (torch.randn(2, 9, 2, 16) for _ in range(3))
    out, lse, probs = flash.flash_attn_func(q, k, v, return_attn_probs=True)
    assert (out.shape, lse.shape, probs.numel()) == ((2, 9, 2, 16), (2, 2, 9), 0)
    assert flash.flash_attn_func(q, k, v, 0.1, return_attn_probs=True)[2].shape == (2, 2, 9, 9)


def test_a_row_that_sees_no_key(flash: ModuleType, sinks: ModuleType) -> None:
    """FlashAttention 2 reports plus infinity, FlashAttention 3 minus infinity."""
    q, k, v = torch.randn(1, 3, 1, 8), torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    _, lse, _ = flash.flash_attn_func(q, k, v, causal=True, return_attn_probs=True)
    assert lse[0, 0, :2].tolist() == [float("inf")] * 2
    _, lse = sinks.flash_attn_func(q, k, v, causal=True)
    assert lse[0, 0, :2].tolist() == [float("-inf")] * 2


def test_used_parts_of_packed_sequences(sinks: ModuleType) -> None:
    bounds = torch.tensor([0, 6, 12], dtype=torch.int32)
    q, k, v = torch.randn(3, 12, 2, 16)
    varlen = sinks.flash_attn3_interface.flash_attn_varlen_func
    out, lse = varlen(q, k, v, bounds, bounds, 6, 6, seqused_q=torch.tensor([4, 6]), seqused_k=torch.tensor([6, 2]))
    first, _ = sinks.flash_attn_func(q[None, :4], k[None, :6], v[None, :6])
    second, _ = sinks.flash_attn_func(q[None, 6:], k[None, 6:8], v[None, 6:8])
    assert torch.equal(out[:4], first[0])
    assert torch.equal(out[6:], second[0])
    assert not out[4:6].any()
    assert lse[:, 4:6].isneginf().all()


def test_a_projection_with_fewer_key_heads(sinks: ModuleType) -> None:
    qkv = torch.randn(2, 9, 8, 16)
    out = sinks.flash_attn_qkvpacked_func(qkv, causal=True, num_heads_q=4)
    expected, _ = sinks.flash_attn_func(*torch.split(qkv, [4, 2, 2], dim=2), causal=True)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_combine_to_the_whole(sinks: ModuleType, dtype: torch.dtype) -> None:
    q, k, v = torch.randn(2, 5, 4, 16), torch.randn(2, 30, 2, 16), torch.randn(2, 30, 2, 16)
    whole, whole_lse = sinks.flash_attn_func(q, k, v)
    parts = [sinks.flash_attn_func(q, k[:, i : i + 10], v[:, i : i + 10]) for i in (0, 10, 20)]
    parts.append((torch.full_like(whole, float("nan")).nan_to_num(), torch.full_like(whole_lse, float("-inf"))))
    outs, lses = torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts]).transpose(-1, -2)
    out, lse = sinks.flash_attn_combine(outs, lses, out_dtype=dtype)
    torch.testing.assert_close(out, whole.to(dtype))
    torch.testing.assert_close(lse, whole_lse.transpose(-1, -2))
    given_out = torch.empty_like(whole, dtype=dtype)
    assert sinks.flash_attn_combine(outs, lses, out=given_out)[0] is given_out
    assert torch.equal(given_out, out)


def test_a_plan_may_be_made_and_used_again(sinks: ModuleType) -> None:
    q, cache, lengths = torch.randn(2, 1, 4, 16), torch.randn(2, 2, 30, 2, 16), torch.tensor([9, 30], dtype=torch.int32)
    plan = sinks.get_scheduler_metadata(2, 1, 30, 4, 2, 16, lengths, q.dtype, num_splits=3)
    assert plan.dtype == torch.int32
    expected = sinks.flash_attn_with_kvcache(q, *cache, cache_seqlens=lengths)
    for _ in range(2):
        out = sinks.flash_attn_with_kvcache(q, *cache, cache_seqlens=lengths, scheduler_metadata=plan, num_splits=3)
        assert torch.equal(out, expected)
