"""The attention problems that every backend is tried on, each with a name that says what is hard about it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from tests.kernels.oracle import Options

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class AttentionCase:
    """One attention problem; prints as the call that makes it.

    seqlens_q, seqlens_k: one length per sequence, the dense extent being the longest. packed: varlen layout; a dense
    batch tells shorter sequences by `seqused`. unused: how many places of a packed sequence are not used. extras:
    which of "alibi", "alibi_per_sequence", "sinks", "mask", "mask_per_head" take part. magnitude: of q.
    """

    name: str
    seqlens_q: tuple[int, ...] = (33, 33)
    seqlens_k: tuple[int, ...] = (33, 33)
    heads: int = 4
    heads_k: int = 4
    head_dim: int = 32
    value_dim: int | None = None
    packed: bool = False
    unused: int = 0
    extras: frozenset[str] = frozenset()
    magnitude: float = 1.0
    options: Options = field(default_factory=Options)
    seed: int = 0

    def __repr__(self) -> str:
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default and f.name != "options"]
        parts = [f"{f.name}={getattr(self, f.name)!r}" for f in changed]
        parts += [f"options={self.options!r}"] if self.options != Options() else []
        return f"AttentionCase({', '.join(parts)})"

    @property
    def dense(self) -> bool:
        """Whether every sequence fills its row."""
        return not self.packed and len(set(self.seqlens_q)) <= 1 and len(set(self.seqlens_k)) <= 1


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tensors of a case: q, k, v, and by keyword what else `attend` and the oracle take."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    rest: dict[str, torch.Tensor]

    def to(self, dtype: torch.dtype) -> Inputs:
        """Return the same values as new leaves in another precision; q, k, v and the sinks require gradients."""
        q, k, v = (x.detach().to(dtype, copy=True).requires_grad_() for x in (self.q, self.k, self.v))
        rest = dict(self.rest)
        if "sinks" in rest:
            rest["sinks"] = rest["sinks"].detach().to(torch.promote_types(dtype, torch.float32), copy=True)
            rest["sinks"].requires_grad_()
        return Inputs(q, k, v, rest)

    def leaves(self) -> dict[str, torch.Tensor]:
        """Return what has a gradient."""
        sinks = {"sinks": self.rest["sinks"]} if "sinks" in self.rest else {}
        return {"q": self.q, "k": self.k, "v": self.v, **sinks}


def draw_inputs(case: AttentionCase, dtype: torch.dtype) -> Inputs:
    """Return tensors for a case; every value is one that dtype can hold."""
    draw = _Draw(torch.Generator().manual_seed(case.seed))
    rows_q, rows_k = _rows(case, case.seqlens_q), _rows(case, case.seqlens_k)
    value_dim = case.head_dim if case.value_dim is None else case.value_dim
    q = (draw(*rows_q, case.heads, case.head_dim) * case.magnitude).to(dtype)
    k = draw(*rows_k, case.heads_k, case.head_dim).to(dtype)
    v = draw(*rows_k, case.heads_k, value_dim).to(dtype)
    return Inputs(q, k, v, _lengths(case) | _bias(case, draw))


@dataclass(frozen=True, slots=True)
class _Draw:
    generator: torch.Generator

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)


def _rows(case: AttentionCase, lengths: tuple[int, ...]) -> tuple[int, ...]:
    if case.packed:
        return (sum(lengths) + case.unused * len(lengths),)
    return len(lengths), max(lengths, default=0)


def _lengths(case: AttentionCase) -> dict[str, torch.Tensor]:
    lengths = {"q": case.seqlens_q, "k": case.seqlens_k}
    told: dict[str, torch.Tensor] = {}
    for side, each in lengths.items():
        if case.packed:
            bounds = itertools.accumulate((length + case.unused for length in each), initial=0)
            told[f"cu_seqlens_{side}"] = torch.tensor(list(bounds), dtype=torch.int32)
        if not case.dense and (not case.packed or case.unused):
            told[f"seqused_{side}"] = torch.tensor(each, dtype=torch.int32)
    return told


def _bias(case: AttentionCase, draw: _Draw) -> dict[str, torch.Tensor]:
    batch, heads = len(case.seqlens_q), case.heads
    bias: dict[str, torch.Tensor] = {}
    if "alibi" in case.extras:
        bias["alibi_slopes"] = draw(heads).abs() * 0.3
    if "alibi_per_sequence" in case.extras:
        bias["alibi_slopes"] = draw(batch, heads).abs() * 0.3
    if "sinks" in case.extras:
        bias["sinks"] = draw(heads) * 2
    if case.extras & {"mask", "mask_per_head"}:
        mask_heads = heads if "mask_per_head" in case.extras else 1
        bias["attn_mask"] = draw(batch, mask_heads, max(case.seqlens_q), max(case.seqlens_k)) > -0.5
    return bias


def _case(name: str, *extras: str, **given: Any) -> AttentionCase:
    """Build a case; arguments of `Options` are told from those of the case by their names."""
    names = {f.name for f in fields(Options)}
    options = Options(**{key: value for key, value in given.items() if key in names})
    rest = {key: value for key, value in given.items() if key not in names}
    return AttentionCase(name, extras=frozenset(extras), options=options, **rest)


def _square(length: int, batch: int = 2) -> dict[str, tuple[int, ...]]:
    return {"seqlens_q": (length,) * batch, "seqlens_k": (length,) * batch}


def _rectangle(rows: int, keys: int, batch: int = 2) -> dict[str, tuple[int, ...]]:
    return {"seqlens_q": (rows,) * batch, "seqlens_k": (keys,) * batch}


SHAPES = [
    _case("plain"),
    _case("one_token", **_square(1)),
    _case("decode", **_rectangle(1, 77)),
    _case("decode_of_a_group", **_rectangle(1, 300), heads=8, heads_k=2),
    _case("two_tokens_of_a_group", **_rectangle(2, 201), heads=4, heads_k=1, head_dim=80, value_dim=112, causal=True),
    _case("decode_of_a_group_of_two", **_rectangle(1, 131), heads=4, heads_k=2, head_dim=112, value_dim=72),
    _case("few_queries_causal", **_rectangle(5, 130), causal=True),
    _case("kv_len_0", **_rectangle(5, 0)),
    _case("no_queries", **_rectangle(0, 5)),
    _case("no_sequences", seqlens_q=(), seqlens_k=()),
    _case("one_key", **_rectangle(40, 1)),
    _case("causal", **_square(65), causal=True),
    _case("all_masked_row", **_rectangle(70, 33), causal=True),
    _case("len_not_multiple_of_tile", **_rectangle(131, 197), causal=True),
    _case("longer_than_one_key_block", **_rectangle(67, 700, batch=1), causal=True),
    _case("gqa", heads=6, heads_k=2, causal=True),
    _case("mqa", heads=5, heads_k=1),
    _case("value_dim_smaller", head_dim=48, value_dim=16, causal=True),
    _case("value_dim_larger", head_dim=24, value_dim=72),
    *(_case(f"head_dim_{d}", **_rectangle(19, 37), head_dim=d, causal=True) for d in (1, 7, 8, 59, 64, 80, 96, 111)),
    *(_case(f"head_dim_{d}", **_rectangle(19, 37), head_dim=d) for d in (128, 160, 192, 224, 255, 256)),
]

WINDOWS = [
    _case("window_left_only", **_square(90), window_size=(13, -1)),
    _case("window_right_only", **_square(90), window_size=(-1, 13)),
    _case("window_both", **_rectangle(90, 120), window_size=(20, 7)),
    _case("window_of_one", **_square(40), window_size=(0, 0)),
    _case("window_causal", **_square(150), window_size=(31, 31), causal=True),
    _case("window_that_leaves_rows_empty", **_rectangle(90, 30), window_size=(3, 2)),
    _case("window_wider_than_the_keys", **_rectangle(20, 30), window_size=(1000, 1000)),
]

SCORES = [
    _case("scale", softmax_scale=0.7),
    _case("scale_zero", softmax_scale=0.0),
    _case("scale_negative", softmax_scale=-0.3, causal=True),
    _case("huge_logits", magnitude=300.0),
    _case("huge_logits_causal", magnitude=300.0, causal=True, **_square(80)),
    _case("softcap", softcap=20.0, magnitude=20.0, causal=True),
    _case("softcap_small", softcap=0.5),
    _case("alibi", "alibi", causal=True),
    _case("alibi_both_sides", "alibi_per_sequence", **_rectangle(30, 50)),
    _case("alibi_and_softcap", "alibi", softcap=15.0, window_size=(9, 4)),
    _case("sinks", "sinks"),
    _case(
        "sinks_gqa_window", "sinks", **_square(150), heads=8, heads_k=2, head_dim=64, causal=True, window_size=(31, 0)
    ),
    _case("sinks_and_empty_rows", "sinks", **_rectangle(50, 20), causal=True),
    _case("sinks_without_keys", "sinks", **_rectangle(5, 0)),
    _case("sinks_and_softcap", "sinks", softcap=10.0, causal=True),
    _case("sinks_and_huge_logits", "sinks", magnitude=300.0),
    _case("mask", "mask", **_rectangle(30, 45)),
    _case("mask_per_head_and_causal", "mask_per_head", causal=True),
    _case("mask_and_sinks", "mask", "sinks", heads=4, heads_k=2, **_rectangle(1, 70)),
]

PACKED = [
    _case("packed", packed=True, seqlens_q=(17, 40, 5), seqlens_k=(17, 40, 5), causal=True),
    _case("packed_other_keys", packed=True, seqlens_q=(17, 1, 30), seqlens_k=(50, 33, 8), causal=True),
    _case("packed_with_empty_sequences", packed=True, seqlens_q=(0, 12, 7, 0), seqlens_k=(3, 12, 0, 0)),
    _case("packed_none", packed=True, seqlens_q=(), seqlens_k=()),
    _case("packed_with_unused", packed=True, seqlens_q=(9, 20), seqlens_k=(13, 20), unused=4, causal=True),
    _case(
        "packed_everything",
        "sinks",
        "alibi_per_sequence",
        packed=True,
        seqlens_q=(90, 1, 33),
        seqlens_k=(100, 20, 33),
        heads=6,
        heads_k=3,
        softcap=12.0,
        causal=True,
        window_size=(25, 0),
    ),
    _case("dense_with_unused", seqlens_q=(20, 12, 0), seqlens_k=(5, 33, 16), causal=True),
]

CASES = [*SHAPES, *WINDOWS, *SCORES, *PACKED]


def with_dropout(case: AttentionCase, dropout_p: float) -> AttentionCase:
    """Return the same case with dropout."""
    return replace(case, options=replace(case.options, dropout_p=dropout_p))
