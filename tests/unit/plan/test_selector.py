"""Choosing variants, and what is said when nothing answers the choice."""

from __future__ import annotations

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import NothingSelectedError
from kernel_builder.plan import Selector, plan_build
from tests.unit.plan.projects import DIGEST, make_environment, make_spec

PLAN = plan_build(make_spec(Backend.CPU, Backend.CUDA, faces=("other",)), make_environment(cuda="13.0"), DIGEST)


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        (Selector(), 4),
        (Selector(variants=("*cpu*",)), 2),
        (Selector(variants=("torch213-cxx11-cu130-x86_64-linux",)), 2),
        (Selector(backends=(Backend.CUDA,), kernels=("other",)), 1),
        (Selector(variants=("*cpu*", "*cu130*")), 4),
    ],
)
def test_all_conditions_hold_together(selector: Selector, count: int) -> None:
    chosen = selector.select(PLAN)
    assert len(chosen.variants) == count
    assert all(selector.selects(variant) for variant in chosen.variants)
    assert set(chosen.variants) <= set(PLAN.variants)


def test_nothing_selected_lists_what_there_is() -> None:
    with pytest.raises(NothingSelectedError) as caught:
        Selector(variants=("torch29-*",), backends=(Backend.CPU,), kernels=("relu-x",)).select(PLAN)
    text = str(caught.value)
    assert "no variant of `relu-x` is named `torch29-*` and for backend `cpu` and of kernel `relu-x`" in text
    assert "`torch213-cxx11-cpu-x86_64-linux` of `relu-x`" in text


def test_an_empty_plan_says_why() -> None:
    plan = plan_build(make_spec(Backend.CUDA, Backend.METAL), make_environment(), DIGEST)
    with pytest.raises(NothingSelectedError) as caught:
        Selector().select(plan)
    assert str(caught.value).splitlines()[:3] == [
        "error: nothing of `relu-x` can be built here:",
        "  cuda: no CUDA toolkit was found here",
        "  metal: metal kernels are built on darwin, this is x86_64-linux",
    ]
