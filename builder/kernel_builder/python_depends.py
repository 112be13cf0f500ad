"""The Python packages that a kernel may depend on: the loader knows these by name, and refuses any other."""

from __future__ import annotations

from collections.abc import Mapping

from kernel_builder.backend import Backend

PYTHON_DEPENDS: Mapping[str, str] = {"einops": "einops", "helion": "helion", "tvm-ffi": "tvm_ffi"}
"""For every backend: the name, and the module that it stands for (empty: none)."""

BACKEND_PYTHON_DEPENDS: Mapping[Backend, Mapping[str, str]] = {
    Backend.CUDA: {"nvidia-cutlass-dsl": "cutlass"},
    Backend.NEURON: {"nki": "nki"},
    Backend.XPU: {"onednn": ""},
}
"""The same for one backend, besides those for every one."""
