"""The attention function that transformers binds: masks, caches and packing, against the definition."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from tests.kernels import oracle
from tests.kernels.oracle import Options

BATCH, HEADS, HEADS_K, HEAD_DIM = 2, 4, 2, 16


class Attention(torch.nn.Module):
    """What a model passes as itself: what the attention function may read of it."""

    def __init__(self, *, is_causal: bool = True) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.layer_idx = 0


def draw(rows: int, keys: int, batch: int = BATCH) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return query, key, value with heads before tokens."""
    q = torch.randn(batch, HEADS, rows, HEAD_DIM)
    k, v = torch.randn(2, batch, HEADS_K, keys, HEAD_DIM)
    return q, k, v


def expect(states: tuple[torch.Tensor, ...], options: Options, **rest: Any) -> torch.Tensor:
    q, k, v = (x.transpose(1, 2).double() for x in states)
    return oracle.attention(q, k, v, options, **rest).out.float()


def call(sinks: ModuleType, states: tuple[torch.Tensor, ...], *given: Any, **options: Any) -> torch.Tensor:
    module = options.pop("module", Attention())
    out, weights = sinks.flash_attn_forward(module, *states, *given, **options)
    assert weights is None
    assert out.is_contiguous()
    attended: torch.Tensor = out
    return attended


def test_options_reach_the_kernel(sinks: ModuleType) -> None:
    states, s_aux = draw(9, 9), torch.randn(HEADS)
    out = call(sinks, states, None, scaling=0.3, softcap=4.0, s_aux=s_aux)
    expected = expect(states, Options(softmax_scale=0.3, softcap=4.0, causal=True), sinks=s_aux)
    torch.testing.assert_close(out, expected)
    torch.manual_seed(3)
    dropped = call(sinks, states, None, 0.5)
    assert not torch.allclose(dropped, call(sinks, states, None))


@pytest.mark.parametrize(
    ("is_causal", "of_module", "expected"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_causality_is_told_or_asked_of_the_module(
    sinks: ModuleType, is_causal: bool | None, of_module: bool, expected: bool
) -> None:
    states = draw(9, 9)
    out = call(sinks, states, None, is_causal=is_causal, module=Attention(is_causal=of_module))
    torch.testing.assert_close(out, expect(states, Options(causal=expected)))


@pytest.mark.parametrize("heads", [1, HEADS])
def test_a_mask_says_everything(sinks: ModuleType, heads: int) -> None:
    """With four dimensions it has causality and window in it already, so neither is applied again."""
    states, mask = draw(6, 11), torch.rand(BATCH, heads, 6, 11) > 0.4
    out = call(sinks, states, mask, sliding_window=2)
    torch.testing.assert_close(out, expect(states, Options(), attn_mask=mask))


def test_a_row_that_is_all_padding_is_zero(sinks: ModuleType) -> None:
    states, mask = draw(6, 6), torch.ones(BATCH, 1, 6, 6, dtype=torch.bool).tril()
    mask[0, :, :, :2] = False
    assert not call(sinks, states, mask)[0, :2].any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mask_of_keys_alone(sinks: ModuleType, side: str) -> None:
    states, keys = draw(6, 9), torch.ones(BATCH, 8, dtype=torch.long)
    keys[1, : 3 if side == "left" else None] = 0 if side == "left" else 1
    if side == "right":
        keys[1, -3:] = 0
    out = call(sinks, states, keys, sliding_window=5)
    expected = expect(
        (states[0], states[1][:, :, :8], states[2][:, :, :8]),
        Options(causal=True, window_size=(4, 4)),
        attn_mask=keys.bool()[:, None, None].expand(BATCH, 1, 6, 8),
    )
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(("rows", "keys", "seen"), [(6, 6, 6), (6, 20, 6)])
def test_no_mask_is_causal_from_the_top_left(sinks: ModuleType, rows: int, keys: int, seen: int) -> None:
    """A cache with room behind the last key is read as far as there are queries."""
    states = draw(rows, keys)
    filled = tuple(x[:, :, :seen] for x in states[1:])
    for window in (None, 3):
        out = call(sinks, states, None, sliding_window=window)
        options = Options(causal=True, window_size=(-1, -1) if window is None else (window - 1, 0))
        torch.testing.assert_close(out, expect((states[0], *filled), options))


def test_fewer_keys_than_queries_are_causal_from_the_top_left(sinks: ModuleType) -> None:
    states = draw(9, 4)
    visible = torch.ones(9, 4, dtype=torch.bool).tril().expand(BATCH, 1, 9, 4)
    torch.testing.assert_close(call(sinks, states, None), expect(states, Options(), attn_mask=visible))
    with pytest.raises(NotImplementedError, match="`sliding_window` is not supported where fewer keys than queries"):
        call(sinks, states, None, sliding_window=2)


def test_one_query_sees_every_key(sinks: ModuleType) -> None:
    states = draw(1, 20)
    torch.testing.assert_close(call(sinks, states, None), expect(states, Options()))


def test_documents_by_bounds(sinks: ModuleType) -> None:
    """Two documents in each of two rows; with and without a mask that knows nothing of them."""
    states, bounds = draw(10, 10), torch.tensor([0, 4, 10, 17, 20], dtype=torch.int32)
    packing = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 7, "max_length_k": 7}
    document = torch.tensor([[0] * 4 + [1] * 6, [2] * 7 + [3] * 3])
    same = (document[:, None, :, None] == document[:, None, None, :]).expand(BATCH, 1, 10, 10)
    expected = expect(states, Options(causal=True), attn_mask=same)
    torch.testing.assert_close(call(sinks, states, None, **packing), expected)
    causal = torch.ones(BATCH, 1, 10, 10, dtype=torch.bool).tril()
    torch.testing.assert_close(call(sinks, states, causal, **packing), expected)
    windowed = expect(states, Options(causal=True, window_size=(2, 0)), attn_mask=same)
    torch.testing.assert_close(call(sinks, states, None, sliding_window=3, **packing), windowed)


@pytest.mark.parametrize("first", [0, 2])
def test_documents_by_positions(sinks: ModuleType, first: int) -> None:
    """Positions that start again, from whatever the model starts with."""
    states = draw(10, 10, batch=1)
    positions = torch.tensor([[*range(4), *range(5), 0]]) + first
    document = torch.tensor([[0] * 4 + [1] * 5 + [2]])
    same = document[:, None, :, None] == document[:, None, None, :]
    expected = expect(states, Options(causal=True), attn_mask=same)
    torch.testing.assert_close(call(sinks, states, None, position_ids=positions), expected)
    causal = torch.ones(1, 1, 10, 10, dtype=torch.bool).tril()
    torch.testing.assert_close(call(sinks, states, causal, position_ids=positions), expected)


def test_positions_that_do_not_start_again_are_one_document(sinks: ModuleType) -> None:
    """A continued sequence, positions that repeat inside a document, and several rows are left as they are."""
    one = draw(6, 6, batch=1)
    expected = expect(one, Options(causal=True))
    for positions in ([[0, 1, 2, 3, 4, 5]], [[3, 4, 5, 6, 7, 8]], [[0, 1, 1, 1, 2, 3]]):
        torch.testing.assert_close(call(sinks, one, None, position_ids=torch.tensor(positions)), expected)
    two = draw(6, 6)
    out = call(sinks, two, None, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]).expand(2, -1))
    torch.testing.assert_close(out, expect(two, Options(causal=True)))


def test_autocast_decides_the_dtype(sinks: ModuleType) -> None:
    """Rotary embedding leaves query and key in fp32 inside autocast, where value is bf16."""
    q, k, v = draw(9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = call(sinks, (q, k, v.bfloat16()), None)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, call(sinks, (q.bfloat16(), k.bfloat16(), v.bfloat16()), None))


def test_gradients_reach_every_input(sinks: ModuleType) -> None:
    states = tuple(x.requires_grad_() for x in draw(9, 9))
    s_aux = torch.randn(HEADS, requires_grad=True)
    leaves = (*states, s_aux)
    actual = torch.autograd.grad(call(sinks, states, None, s_aux=s_aux).square().sum(), leaves)
    expected = torch.autograd.grad(expect(states, Options(causal=True), sinks=s_aux).square().sum(), leaves)
    for gradient, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-4, atol=1e-4)


class PagedCache:
    """What continuous batching passes: it takes new keys, and returns all of them with their bounds."""

    def update(
        self, *, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert kwargs["read_index"] == "any"
        kwargs["cu_seq_lens_k"] = kwargs["cu_seq_lens_k"]["full"][layer_idx]
        kwargs["max_length_k"] = kwargs["max_length_k"]["full"]
        past = torch.zeros(1, HEADS_K, 3, HEAD_DIM)
        return torch.cat((past, key_states), dim=2), torch.cat((past, value_states), dim=2)


def test_continuous_batching_goes_through_its_cache(sinks: ModuleType) -> None:
    states = draw(5, 5, batch=1)
    bounds_q, bounds_k = torch.tensor([0, 2, 5], dtype=torch.int32), torch.tensor([0, 5, 8], dtype=torch.int32)
    packing = {"cu_seq_lens_q": bounds_q, "cu_seq_lens_k": {"full": [bounds_k]}}
    lengths = {"max_length_q": 3, "max_length_k": {"full": 5}, "read_index": "any"}
    out = call(sinks, states, None, cache=PagedCache(), is_causal=True, **packing, **lengths)
    past = torch.zeros(1, HEADS_K, 3, HEAD_DIM)
    q, k, v = (x[0].transpose(0, 1) for x in (states[0], *(torch.cat((past, x), dim=2) for x in states[1:])))
    expected = oracle.attention(q, k, v, Options(causal=True), cu_seqlens_q=bounds_q, cu_seqlens_k=bounds_k).out
    torch.testing.assert_close(out[0], expected)
