"""Who may ask for gradients that are equal bits every time, and that the op hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

Q, K, V = (torch.randn(1, 5, 2, 16, requires_grad=True) for _ in range(3))
BOUNDS = torch.tensor([0, 2, 5], dtype=torch.int32)
PACKED = (Q[0], K[0], V[0], BOUNDS, BOUNDS, 3, 3)
FLASH: dict[str, Callable[..., Any]] = {
    "flash_attn_func": lambda flash, **asked: flash.flash_attn_func(Q, K, V, **asked),
    "varlen": lambda flash, **asked: flash.flash_attn_varlen_func(*PACKED, **asked),
    "qkvpacked": lambda flash, **asked: flash.flash_attn_qkvpacked_func(torch.stack((Q, K, V), 2), **asked),
    "kvpacked": lambda flash, **asked: flash.flash_attn_kvpacked_func(Q, torch.stack((K, V), 2), **asked),
    "varlen_qkvpacked": lambda flash, **asked: flash.flash_attn_varlen_qkvpacked_func(
        torch.stack(PACKED[:3], 1), BOUNDS, 3, **asked
    ),
    "varlen_kvpacked": lambda flash, **asked: flash.flash_attn_varlen_kvpacked_func(
        PACKED[0], torch.stack(PACKED[1:3], 1), *PACKED[3:], **asked
    ),
}
SINKS: dict[str, Callable[..., Any]] = {
    "flash_attn_func": lambda sinks, **asked: sinks.flash_attn_func(Q, K, V, **asked)[0],
    "varlen": lambda sinks, **asked: sinks.flash_attn3_interface.flash_attn_varlen_func(*PACKED, **asked)[0],
    "qkvpacked": lambda sinks, **asked: sinks.flash_attn_qkvpacked_func(torch.stack((Q, K, V), 2), **asked),
}


class _Heard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the last argument of each backward op that runs inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.answers: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "flash_attn_backward" in str(func):
            self.answers.append(args[-1])
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _switch_is_restored() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(mode=False)


def _heard_by(run: Callable[..., torch.Tensor]) -> list[bool]:
    heard = _Heard()
    with heard:
        torch.autograd.grad(run().sum(), (Q, K, V))
    return heard.answers


@pytest.mark.parametrize("name", FLASH)
def test_argument(flash: ModuleType, name: str) -> None:
    for asked in ({}, {"deterministic": False}, {"deterministic": True}):
        assert _heard_by(lambda asked=asked: FLASH[name](flash, **asked)) == [asked.get("deterministic", False)]


@pytest.mark.parametrize("name", SINKS)
def test_argument_of_the_other_face(sinks: ModuleType, name: str) -> None:
    for asked in (False, True):
        assert _heard_by(lambda asked=asked: SINKS[name](sinks, deterministic=asked)) == [asked]


@pytest.mark.parametrize("asked", [False, True])
def test_argument_of_the_raw_functions(flash: ModuleType, asked: bool) -> None:
    dense, packed = [x.detach() for x in (Q, K, V)], [x.detach() if x is not BOUNDS else x for x in PACKED[:5]]
    out, lse, _, _ = flash.fwd(*dense)
    out_packed, lse_packed, _, _ = flash.varlen_fwd(*packed)
    with _Heard() as heard:
        flash.bwd(out, *dense, out, lse, deterministic=asked)
        flash.varlen_bwd(out_packed, *packed[:3], out_packed, lse_packed, BOUNDS, BOUNDS, deterministic=asked)
    assert heard.answers == [asked, asked]


def test_switch_of_torch_counts_when_the_gradient_is_computed(flash: ModuleType) -> None:
    out = flash.flash_attn_func(Q, K, V)
    for wanted in (False, True, False):
        torch.use_deterministic_algorithms(wanted)
        with _Heard() as heard:
            torch.autograd.grad(out.sum(), (Q, K, V), retain_graph=True)
        assert heard.answers == [wanted]
    torch.use_deterministic_algorithms(mode=True)
    assert _heard_by(lambda: flash.flash_attn_func(Q, K, V, deterministic=False)) == [True]


def test_captured_graphs_know_both(flash: ModuleType) -> None:
    """A graph is captured anew when torch's switch has changed."""
    heard: list[bool] = []

    def note(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        heard.extend(node.args[-1] for node in graph.graph.nodes if "flash_attn_backward" in str(node.target))

        def run(arguments: list[Any]) -> Any:
            return graph(*arguments)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    torch.compiler.reset()
    backend = aot_autograd(fw_compiler=note, bw_compiler=note)
    compiled = torch.compile(flash.flash_attn_func, fullgraph=True, backend=backend)
    for asked, switched in ((False, False), (True, False), (False, True)):
        torch.use_deterministic_algorithms(switched)
        torch.autograd.grad(compiled(Q, K, V, deterministic=asked).sum(), (Q, K, V))  # type: ignore[no-untyped-call]
    assert heard == [False, True, True]
