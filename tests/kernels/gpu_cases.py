"""Attention problems of several tiles and key blocks, for kernels with pipelines; too slow to try on every backend."""

from __future__ import annotations

from dataclasses import replace

from tests.kernels.cases import AttentionCase
from tests.kernels.oracle import Options

_CASE = AttentionCase("long", seqlens_q=(300, 300), seqlens_k=(300, 300), heads=2, heads_k=1, head_dim=64)

_EACH_HEAD_DIM = [
    replace(_CASE, name="long"),
    replace(_CASE, name="long_causal", seqlens_k=(700, 700), options=Options(causal=True)),
    replace(
        _CASE,
        name="long_packed_with_sinks",
        packed=True,
        seqlens_q=(0, 200, 333, 1),
        seqlens_k=(50, 200, 520, 0),
        unused=5,
        extras=frozenset({"sinks"}),
        options=Options(causal=True),
    ),
]

# Those of many tiles have more than a Hopper GPU has multiprocessors (132), so that a persistent block has several.
# Keys that do not exist still have a width, which must be that of the padded queries.
GPU_CASES = [
    *(replace(case, name=f"{case.name}_d{dim}", head_dim=dim) for dim in (64, 128, 256) for case in _EACH_HEAD_DIM),
    *(
        replace(case, name=f"{case.name}_many_tiles", heads=32, heads_k=16, head_dim=dim)
        for case, dim in ((_EACH_HEAD_DIM[0], 64), (_EACH_HEAD_DIM[2], 128))
    ),
    replace(_CASE, name="no_keys_narrow", seqlens_q=(5, 5), seqlens_k=(0, 0), head_dim=20),
    replace(_CASE, name="long_window_softcap", options=Options(window_size=(150, 60), softcap=20.0), head_dim=128),
    replace(_CASE, name="long_alibi_mask", extras=frozenset({"alibi", "mask_per_head"}), head_dim=128),
    replace(
        _CASE,
        name="long_wide_heads",
        extras=frozenset({"alibi", "sinks"}),
        options=Options(window_size=(150, 60), softcap=20.0),
        head_dim=192,
        value_dim=256,
    ),
    replace(_CASE, name="long_narrow_values", head_dim=96, value_dim=40, heads=3, options=Options(causal=True)),
]
