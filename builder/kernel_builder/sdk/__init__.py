"""SDK slices: what a compile needs of torch and of CUDA's libraries, straight out of their wheels.

`obtain_torch_sdk` is the way in for everybody else.
"""

from __future__ import annotations

from kernel_builder.sdk.torch_slice import obtain_torch_sdk

__all__ = ["obtain_torch_sdk"]
