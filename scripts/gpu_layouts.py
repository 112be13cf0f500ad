"""What `gpu_check.py` asks of numbers that lie in other places, which tensor copies are told as strides.

Nothing but a GPU says whether its driver takes a stride of 0, or one that is less than that of the dimension before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from scripts.gpu_exact import LARGEST_ERROR, largest_error
from scripts.gpu_timing import first_line
from scripts.gpu_workloads import Place

SHAPE = (2, 300, 4)
"""Sequences, tokens and heads: tiles that are whole, and one that is not."""

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "heads before tokens": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one of three in a tensor": lambda x: torch.stack([x, -x, x + 1], dim=2)[:, :, 0],
    "rows with room between them": lambda x: torch.cat([x, x[..., :8]], dim=-1)[..., :-8],
    "the same sequence again": lambda x: x[:1].expand_as(x),
    "the same head again": lambda x: x[:, :, :1].expand_as(x),
}


def find_layout_failures(place: Place, families: dict[str, str]) -> Iterator[str]:
    """Yield one line for each layout in which attention or its gradient is another one.

    families: takes which kernels attended in each: the baseline, where the driver does not take the strides.
    """
    for dim in (64, 128, 256):
        for name, lay in LAYOUTS.items():
            where = f"{name}, head dim {dim}"
            try:
                tensors = [lay(place.draw(*SHAPE, dim)) for _ in range(4)]  # the last: the gradient of out
                laid = place.differentiate(*tensors)
                if place.device.type == "cuda":
                    place.flash.attention.attend(*tensors[:3], causal=True)
                    families[where] = place.flash._ops.ops.cuda_kernels()  # noqa: SLF001  (for checks like this one)
                beside = place.differentiate(*(x.contiguous() for x in tensors))
                error = largest_error(laid, beside)
            except Exception as raised:  # noqa: BLE001  (the other layouts are still worth a line)
                yield f"{where}: {first_line(raised)}"
                continue
            if not error <= LARGEST_ERROR:
                yield f"{where}: off by {error:.1%} from the same numbers side by side"
