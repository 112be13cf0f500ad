"""Attention problems for hypothesis to draw: any lengths, heads, masks and biases, together."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.kernels.cases import AttentionCase
from tests.kernels.oracle import Options

_SIDE = st.one_of(st.just(-1), st.integers(0, 80))
_LENGTH = st.one_of(st.integers(0, 20), st.integers(21, 150))


@st.composite
def attention_cases(draw: st.DrawFn) -> AttentionCase:
    """Draw a case that the kernel supports."""
    batch = draw(st.integers(1, 3))
    packed = draw(st.booleans())
    same = not packed and draw(st.booleans())
    lengths = [draw(_LENGTH)] * batch if same else draw(st.lists(_LENGTH, min_size=batch, max_size=batch))
    lengths_k = [draw(_LENGTH)] * batch if same else draw(st.lists(_LENGTH, min_size=batch, max_size=batch))
    heads_k = draw(st.integers(1, 3))
    head_dim = draw(st.integers(1, 80))
    extras = draw(st.sets(st.sampled_from(["alibi", "alibi_per_sequence", "sinks", "mask", "mask_per_head"])))
    return AttentionCase(
        "random",
        seqlens_q=tuple(lengths),
        seqlens_k=tuple(lengths_k),
        heads=heads_k * draw(st.integers(1, 4)),
        heads_k=heads_k,
        head_dim=head_dim,
        value_dim=draw(st.one_of(st.none(), st.integers(1, 80))),
        packed=packed,
        unused=draw(st.integers(0, 3)) if packed else 0,
        extras=frozenset(extras - ({"mask", "mask_per_head"} if packed else set())),
        magnitude=draw(st.sampled_from([1.0, 1.0, 10.0, 100.0])),
        options=Options(
            softmax_scale=draw(st.one_of(st.none(), st.floats(-1.0, 1.0))),
            causal=draw(st.booleans()),
            window_size=(draw(_SIDE), draw(_SIDE)),
            softcap=draw(st.sampled_from([0.0, 0.0, 1.0, 30.0])),
        ),
        seed=draw(st.integers(0, 10_000)),
    )
