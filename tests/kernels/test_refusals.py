"""What the kernel does not do, it says; what a call gets wrong, it names, with what was received."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

Q, K, V = torch.randn(2, 5, 4, 16), torch.randn(2, 7, 2, 16), torch.randn(2, 7, 2, 16)
PACKED = {
    "q": torch.randn(6, 4, 16),
    "k": torch.randn(9, 2, 16),
    "v": torch.randn(9, 2, 16),
    "cu_seqlens_q": torch.tensor([0, 2, 6], dtype=torch.int32),
    "cu_seqlens_k": torch.tensor([0, 4, 9], dtype=torch.int32),
    "max_seqlen_q": 4,
    "max_seqlen_k": 5,
}
CACHE = {
    "q": torch.randn(2, 1, 4, 16),
    "k_cache": torch.zeros(2, 8, 2, 16),
    "v_cache": torch.zeros(2, 8, 2, 16),
    "k": torch.randn(2, 1, 2, 16),
    "v": torch.randn(2, 1, 2, 16),
    "cache_seqlens": torch.tensor([3, 7], dtype=torch.int32),
}
LEARNED = torch.randn(4, requires_grad=True)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


DENSE_REFUSALS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"q": [1.0]}, TypeError, "`q` must be a tensor, got list"),
    ({"q": Q.double()}, ValueError, "`q` must be float16, bfloat16 or float32, got torch.float64"),
    ({"k": K.half()}, ValueError, "`k` must have the dtype of `q`, torch.float32, got torch.float16"),
    ({"v": V.to("meta")}, ValueError, "`v` must be on the device of `q`, cpu, got meta"),
    ({"q": Q[0]}, ValueError, r"`q` must have shape \(batch, seqlen, heads, head_dim\), got \(5, 4, 16\)"),
    ({"k": K[:1], "v": V[:1]}, ValueError, "`k` must have the batch size of `q`, 2, got 1"),
    ({"k": K[..., :8]}, ValueError, "`k` must have the head_dim of `q`, 16, got 8"),
    (
        {"v": V[:, :5]},
        ValueError,
        r"`v` must have the shape of `k` up to head_dim, \(2, 7, 2, 16\), got \(2, 5, 2, 16\)",
    ),
    ({"q": Q[:, :, :3]}, ValueError, "the heads of `q` must be a multiple of those of `k`, got 3 and 2"),
    ({"k": K[:, :, :0], "v": V[:, :, :0]}, ValueError, "must be a multiple of those of `k`, got 4 and 0"),
    ({"q": Q[..., :0], "k": K[..., :0]}, ValueError, "head_dim of `q` must be between 1 and 256, got 0"),
    ({"v": torch.randn(2, 7, 2, 257)}, ValueError, "head_dim of `v` must be between 1 and 256, got 257"),
    ({"dropout_p": 1.0}, ValueError, "`dropout_p` must be at least 0 and below 1, got 1.0"),
    ({"dropout_p": -0.1}, ValueError, "`dropout_p` must be at least 0 and below 1, got -0.1"),
    ({"softmax_scale": math.nan}, ValueError, "`softmax_scale` must be a finite number, got nan"),
    ({"softcap": math.inf}, ValueError, "`softcap` must be a finite number, got inf"),
    ({"window_size": (-2, 0)}, ValueError, r"`window_size` must be at least 0 .* got \(-2, 0\)"),
    ({"window_size": (1, 2, 3)}, ValueError, r"`window_size` must be a pair \(left, right\), got \(1, 2, 3\)"),
    ({"alibi_slopes": torch.ones(4).half()}, ValueError, "`alibi_slopes` must be float32, got torch.float16"),
    ({"alibi_slopes": torch.ones(2)}, ValueError, r"`alibi_slopes` must have shape \(4,\) or \(2, 4\), got \(2,\)"),
    ({"alibi_slopes": LEARNED}, NotImplementedError, "`alibi_slopes` has no gradient, but requires one: detach it"),
    ({"s_aux": torch.ones(3)}, ValueError, r"`sinks` must have shape \(4,\), one per query head, got \(3,\)"),
    ({"s_aux": ints(1, 2, 3, 4)}, ValueError, "`sinks` must be floating point, got torch.int32"),
    ({"s_aux": 1.0}, TypeError, "`sinks` must be a tensor, got float"),
    (
        {"s_aux": torch.ones(4), "sinks": torch.ones(4)},
        TypeError,
        "`s_aux` and `sinks` name the same argument: give only one of them",
    ),
]


@pytest.mark.parametrize(("changed", "error", "message"), DENSE_REFUSALS, ids=lambda x: x if type(x) is str else "")
def test_dense(flash: ModuleType, changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        flash.flash_attn_func(**({"q": Q, "k": K, "v": V} | changed))


PACKED_REFUSALS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"q": Q}, ValueError, r"`q` must have shape \(total, heads, head_dim\), got \(2, 5, 4, 16\)"),
    ({"cu_seqlens_q": [0, 2, 6]}, TypeError, "`cu_seqlens_q` must be a tensor, got list"),
    (
        {"cu_seqlens_q": torch.tensor([0.0, 6.0])},
        ValueError,
        "`cu_seqlens_q` must be int32 or int64, got torch.float32",
    ),
    (
        {"cu_seqlens_q": ints()},
        ValueError,
        "`cu_seqlens_q` must have one entry more than there are sequences, got none",
    ),
    ({"cu_seqlens_k": ints(0, 9)}, ValueError, r"`cu_seqlens_k` must have shape \(3\), got \(2,\)"),
    ({"cu_seqlens_k": None}, ValueError, "packed queries .* need `cu_seqlens_k` or `block_table`, got neither"),
    ({"cu_seqlens_q": ints(0, 2, 7)}, RuntimeError, "`cu_seqlens_q`.* 7"),
    ({"cu_seqlens_q": ints(0, 5, 4)}, RuntimeError, "`cu_seqlens_q`"),
    ({"cu_seqlens_k": ints(0, 4, 10)}, RuntimeError, "`cu_seqlens_k`.* 10"),
    # As int32 these would be 0, 2, 6 again.
    ({"cu_seqlens_q": torch.tensor([0, 2, 6 + 2**32])}, RuntimeError, "`cu_seqlens_q`.* 2147483647"),
    ({"max_seqlen_q": -1}, ValueError, "`max_seqlen_q` must be at least 0, got -1"),
    ({"block_table": ints(0, 1).view(2, 1)}, ValueError, r"`k` must have shape \(batch or pages"),
]


@pytest.mark.parametrize(("changed", "error", "message"), PACKED_REFUSALS, ids=lambda x: x if type(x) is str else "")
def test_packed(flash: ModuleType, changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        flash.flash_attn_varlen_func(**(PACKED | changed))


CACHE_REFUSALS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"q": None}, TypeError, "`q` must be a tensor, got NoneType"),
    ({"v_cache": torch.zeros(2, 8, 16)}, ValueError, r"`v_cache` must have shape .* got \(2, 8, 16\)"),
    ({"v": torch.randn(2, 2, 2, 16)}, ValueError, r"`v` must have shape .* got \(2, 2, 2, 16\)"),
    ({"k": [1.0]}, TypeError, "`k` must be a tensor, got list"),
    ({"block_table": [0, 1]}, TypeError, "`block_table` must be a tensor, got list"),
    ({"v": None}, TypeError, "`k` and `v` must be given together, got `k` without `v`"),
    ({"cache_seqlens": None}, TypeError, "`k` is appended at `cache_seqlens`, got `k` without `cache_seqlens`"),
    ({"cache_seqlens": ints(3, 8)}, RuntimeError, "`cache_seqlens`.* 8"),
    ({"cache_seqlens": ints(3, -1)}, RuntimeError, "`cache_seqlens`.* -1"),
    ({"cache_seqlens": torch.tensor([3, 7 - 2**32])}, RuntimeError, "`cache_seqlens`.* -2147483648"),
    ({"cache_seqlens": ints(3)}, ValueError, r"`cache_seqlens` must have shape \(2\), got \(1,\)"),
    (
        {"k": torch.randn(2, 1, 4, 16)},
        ValueError,
        r"`k` must have shape \(batch, seqlen_new, 2, 16\), got \(2, 1, 4, 16\)",
    ),
    ({"k": torch.randn(2, 1, 2, 16).half()}, ValueError, "`k` must have the dtype of the cache, torch.float32, got"),
    ({"cache_batch_idx": ints(0, 2)}, ValueError, "`cache_batch_idx` must be between 0 and 1, got 0 to 2"),
    ({"cache_leftpad": ints(0, 9)}, RuntimeError, "`leftpad_k`.* 9"),
    ({"block_table": ints(0, 2).view(2, 1)}, RuntimeError, "`block_table`.* 2"),
    ({"block_table": ints(0, -1).view(2, 1)}, RuntimeError, "`block_table`.* -1"),
    ({"rotary_cos": torch.ones(8, 8)}, TypeError, "`rotary_cos` and `rotary_sin` must be given together"),
    ({"num_splits": 257}, ValueError, "`num_splits` must be between 0 and 256, got 257"),
    (
        {"block_table": ints(0, 1).view(2, 1), "page_table": ints(0, 1).view(2, 1)},
        TypeError,
        "`block_table` and `page_table` name the same argument",
    ),
    (
        {"k_cache": torch.zeros(2, 8, 2, 32)[..., ::2], "v_cache": torch.zeros(2, 8, 2, 32)[..., ::2]},
        ValueError,
        "`k_cache` is written in place: its last stride must be 1, got 2",
    ),
    (
        {"v_cache": torch.zeros(1, 8, 2, 16).expand(2, -1, -1, -1)},
        ValueError,
        r"`v_cache` is written in place: its places must not share memory, got strides \(0, 32, 16, 1\)",
    ),
    ({"s_aux": torch.ones(3)}, ValueError, r"`sinks` must have shape \(4,\), one per query head, got \(3,\)"),
]


@pytest.mark.parametrize(("changed", "error", "message"), CACHE_REFUSALS, ids=lambda x: x if type(x) is str else "")
def test_cache(flash: ModuleType, changed: dict[str, Any], error: type[Exception], message: str) -> None:
    given = CACHE | changed
    before = given["k_cache"].clone()
    with pytest.raises(error, match=message):
        flash.flash_attn_with_kvcache(**given)
    assert torch.equal(given["k_cache"], before), "a refused call has written to the cache"


ROTARY_REFUSALS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rotary_cos": torch.ones(8, 8).half()}, ValueError, "`rotary_cos` must have the dtype of `q`"),
    ({"rotary_sin": torch.ones(8, 4)}, ValueError, r"`rotary_sin` must have shape .* got \(8, 4\)"),
    (
        {"rotary_cos": torch.ones(8, 4), "rotary_sin": torch.ones(8, 4)},
        ValueError,
        "rotary_dim must be a multiple of 16 and at most head_dim 16, got 8",
    ),
    (
        {"rotary_cos": torch.ones(8, 16), "rotary_sin": torch.ones(8, 16)},
        ValueError,
        "rotary_dim must be a multiple of 16 and at most head_dim 16, got 32",
    ),
    (
        {"rotary_cos": torch.ones(7, 8), "rotary_sin": torch.ones(7, 8)},
        ValueError,
        "`rotary_cos` must have a row for each place in the cache, 8, got 7",
    ),
    ({"k": None, "v": None}, NotImplementedError, "`rotary_cos` needs `k` and `v`"),
    ({"cache_seqlens": ints(3, 8)}, ValueError, "positions in `rotary_cos` must be between 0 and 7, got 3 to 8"),
]


@pytest.mark.parametrize(("changed", "error", "message"), ROTARY_REFUSALS, ids=lambda x: x if type(x) is str else "")
def test_rotary(flash: ModuleType, changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        flash.flash_attn_with_kvcache(
            **(CACHE | {"rotary_cos": torch.ones(8, 8), "rotary_sin": torch.ones(8, 8)} | changed), causal=True
        )


@pytest.mark.parametrize("name", ["fwd", "varlen_fwd"])
def test_a_generator_is_refused(flash: ModuleType, name: str) -> None:
    given = {"q": Q, "k": K, "v": V} if name == "fwd" else {key: PACKED[key] for key in list(PACKED)[:5]}
    with pytest.raises(NotImplementedError, match="`gen` is not supported: dropout follows torch's default"):
        getattr(flash, name)(**given, p_dropout=0.1, gen=torch.Generator())


@pytest.mark.parametrize("out", [torch.empty(2, 5, 4, 8), torch.empty(2, 5, 4, 16).half()])
def test_an_output_that_does_not_fit_is_refused(flash: ModuleType, out: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`out` must be torch.float32 of shape \(2, 5, 4, 16\) on cpu, got"):
        flash.fwd(Q, K, V, out=out)


@pytest.mark.parametrize("name", ["q", "k_cache", "k", "v", "s_aux"])
def test_gradients_of_a_cache_are_refused_when_asked_for(flash: ModuleType, name: str) -> None:
    """Attention itself works: a forgotten `no_grad` is no reason to fail, a lost gradient is."""
    given = {"s_aux": torch.ones(4)} | CACHE | {"k_cache": torch.zeros(2, 8, 2, 16)}
    given[name] = given[name].clone().requires_grad_()
    out = flash.flash_attn_with_kvcache(**given)
    with pytest.raises(NotImplementedError, match="a KV cache has no gradient: call it under"):
        out.sum().backward()
    with torch.no_grad():
        assert not flash.flash_attn_with_kvcache(**given).requires_grad


def test_gradients_of_pages_are_refused_when_asked_for(flash: ModuleType) -> None:
    pages = torch.randn(4, 8, 2, 16, requires_grad=True)
    out = flash.flash_attn_varlen_func(
        **(PACKED | {"k": pages, "v": pages, "block_table": ints(0, 1, 2, 3).view(2, 2)})
    )
    with pytest.raises(NotImplementedError, match="a KV cache has no gradient: call it under"):
        out.sum().backward()


@pytest.mark.parametrize(
    "call",
    [
        lambda flash, x: flash.flash_attn_func(Q, K, V, s_aux=x[0, 0, :, 0]),
        lambda flash, x: flash.flash_attn_func(x, K, V, dropout_p=0.1),
        lambda flash, x: flash.fwd(x, K, V)[0],
        lambda flash, x: flash.flash_attn_with_kvcache(x, K, V),
        lambda flash, x: flash.layers.SiLU()(x),
    ],
    ids=["sinks", "dropout", "raw", "cache", "layer"],
)
def test_derivatives_of_forward_mode_are_refused(
    flash: ModuleType, call: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch does not ask the ops for them: what came out would have none, which counts as zero."""
    monkeypatch.setenv("PYTORCH_JIT", "0")  # torch would first compile decompositions, for seconds
    with forward_ad.dual_level():
        x = forward_ad.make_dual(Q, Q)  # type: ignore[no-untyped-call]
        with pytest.raises(NotImplementedError, match=r"forward-mode derivatives .* are not supported"):
            call(flash, x)
        tangent = forward_ad.unpack_dual(x + call(flash, Q)).tangent  # type: ignore[no-untyped-call]
    assert torch.equal(tangent, Q), "attention to constants is no reason to refuse"


@pytest.mark.parametrize("shape", [(2, 5, 2, 4, 16), (2, 5, 3, 16)])
def test_packed_tensors_of_other_shapes_are_refused(flash: ModuleType, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`qkv` must have shape \(batch, seqlen, 3, heads, head_dim\), got"):
        flash.flash_attn_qkvpacked_func(torch.randn(shape))


@pytest.mark.parametrize(
    "given",
    [
        {"qv": Q},
        {"q_descale": torch.ones(2, 2)},
        {"k_descale": torch.ones(2, 2)},
        {"v_descale": torch.ones(2, 2)},
        {"cp_world_size": 2},
        {"cp_tot_seqused_k": ints(1, 2)},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_only_vllm_has_is_refused_by_name(sinks: ModuleType, given: dict[str, Any]) -> None:
    name = next(iter(given))
    with pytest.raises(NotImplementedError, match=f"`{name}` is not supported: "):
        sinks.flash_attn_func(Q, K, V, **given)
    with pytest.raises(NotImplementedError, match=f"`{name}` is not supported: "):
        sinks.flash_attn_with_kvcache(**CACHE, **given)


def test_parts_that_do_not_fit_are_not_combined(sinks: ModuleType) -> None:
    parts, lse = torch.randn(3, 2, 5, 4, 16), torch.randn(3, 2, 5, 4)
    with pytest.raises(ValueError, match=r"`out_partial` must be .* with 5 dimensions"):
        sinks.flash_attn_combine(parts.half(), lse)
    with pytest.raises(ValueError, match=r"`lse_partial` must have shape \(3, 2, 5, 4\), got \(2, 2, 5, 4\)"):
        sinks.flash_attn_combine(parts, lse[:2])
    with pytest.raises(NotImplementedError, match="`flash_attn_combine` has no gradient of its own"):
        sinks.flash_attn_combine(parts.requires_grad_(), lse)[0].sum().backward()


def test_the_model_attention_names_what_it_cannot_do(sinks: ModuleType) -> None:
    module, heads_first = torch.nn.Identity(), [x.transpose(1, 2) for x in (Q, K, V)]
    with pytest.raises(NotImplementedError, match="`position_bias` is not supported"):
        sinks.flash_attn_forward(module, *heads_first, position_bias=torch.zeros(1))
    with pytest.raises(NotImplementedError, match=r"`attn_mask` must be bool, .* got torch.float"):
        sinks.flash_attn_forward(module, *heads_first, torch.zeros(2, 1, 5, 7))
    with pytest.raises(ValueError, match=r"`attn_mask` must have shape .* got \(2, 1, 5, 6\)"):
        sinks.flash_attn_forward(module, *heads_first, torch.ones(2, 1, 5, 6, dtype=torch.bool))
    with pytest.warns(UserWarning, match="attention weights are never formed"):
        sinks.flash_attn_forward(module, *heads_first, output_attentions=True)
