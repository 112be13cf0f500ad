"""What torch has to know about the layers' ops beside their code, and the short way to them without a gradient.

Importing this module registers shapes without data, and gradients. The ops, with their schemas, come from the shared
library.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch

from .._ops import add_op_namespace_prefix, ops
from ..checks import check_tangents

_without_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)  # noqa: SLF001 - no public name
"""Inside, ops go past their gradients, which are Python and would take more time than a short row does."""


def call_op(name: str, tensors: tuple[torch.Tensor, ...], *scalars: Any) -> Any:
    """Call an op; go past its gradient where nobody can want one."""
    op = getattr(ops, name)
    if torch.compiler.is_compiling():
        return op(*tensors, *scalars)
    check_tangents(*tensors)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return op(*tensors, *scalars)
    with _without_autograd():
        return op(*tensors, *scalars)


def common_dtype(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors in the dtype to which torch would promote them together."""
    dtypes = {x.dtype for x in tensors}
    if len(dtypes) == 1:
        return tensors
    dtype = reduce(torch.promote_types, dtypes)
    return tuple(x.to(dtype) for x in tensors)


@torch.library.register_fake(add_op_namespace_prefix("layer_rms_norm"))
def _rms_norm_shapes(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.register_fake(add_op_namespace_prefix("layer_rms_norm_backward"))
def _rms_norm_backward_shapes(
    dout: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


@torch.library.register_fake(add_op_namespace_prefix("layer_silu"))
def _silu_shapes(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake(add_op_namespace_prefix("layer_silu_and_mul"))
def _silu_and_mul_shapes(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


@torch.library.register_fake(add_op_namespace_prefix("layer_silu_backward"))
@torch.library.register_fake(add_op_namespace_prefix("layer_silu_and_mul_backward"))
def _silu_backward_shapes(dout: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake(add_op_namespace_prefix("layer_rotary"))
def _rotary_shapes(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, transposed: bool) -> torch.Tensor:
    return x.new_empty(x.shape)


def _save_rms_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, weight, _epsilon = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _rms_norm_backward(ctx: Any, dout: torch.Tensor | None, _drstd: None) -> tuple[torch.Tensor | None, ...]:
    if dout is None:
        return None, None, None
    x, weight, rstd = ctx.saved_tensors
    dx, dweight = ops.layer_rms_norm_backward(dout, x, weight, rstd)
    return dx, dweight, None


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _silu_backward(ctx: Any, dout: torch.Tensor) -> torch.Tensor:
    return ops.layer_silu_backward(dout, *ctx.saved_tensors)


def _silu_and_mul_backward(ctx: Any, dout: torch.Tensor) -> torch.Tensor:
    return ops.layer_silu_and_mul_backward(dout, *ctx.saved_tensors)


def _save_angles(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _x, cos, sin, ctx.transposed = inputs
    ctx.save_for_backward(cos, sin)


def _rotary_backward(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    dout = dout if dout.stride(-1) == 1 else dout.contiguous()
    return ops.layer_rotary(dout, *ctx.saved_tensors, not ctx.transposed), None, None, None


def _refuse_twice(name: str) -> Callable[..., Any]:
    def backward(ctx: Any, *_gradients: Any) -> None:
        raise NotImplementedError(f"`{name}` can be differentiated once, not twice (`create_graph=True`)")

    return backward


_GRADIENTS = {
    "layer_rms_norm": (_rms_norm_backward, _save_rms_norm),
    "layer_silu": (_silu_backward, _save_inputs),
    "layer_silu_and_mul": (_silu_and_mul_backward, _save_inputs),
    "layer_rotary": (_rotary_backward, _save_angles),
}
for _name, (_backward, _save) in _GRADIENTS.items():
    torch.library.register_autograd(add_op_namespace_prefix(_name), _backward, setup_context=_save)
for _name in ("layer_rms_norm", "layer_silu", "layer_silu_and_mul"):
    torch.library.register_autograd(add_op_namespace_prefix(f"{_name}_backward"), _refuse_twice(_name))
