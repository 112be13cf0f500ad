"""The device families, and one row of facts about each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Language(StrEnum):
    """How the sources of a component are compiled."""

    CXX = "C++"
    CUDA = "CUDA"
    HIP = "HIP"
    METAL = "Metal"
    SYCL = "SYCL"


class Backend(StrEnum):
    """A device family, spelled as `build.toml` and `metadata.json` spell it."""

    CANN = "cann"
    CPU = "cpu"
    CUDA = "cuda"
    METAL = "metal"
    NEURON = "neuron"
    ROCM = "rocm"
    TPU = "tpu"
    XPU = "xpu"


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """What differs between backends outside their compilers.

    `language` is None where nothing is compiled ahead of time. `token` is the name in a variant;
    `versioned` says that the toolkit's version follows it (`cu130`). `defines` are the macros that existing
    kernel sources test.
    """

    language: Language | None
    token: str
    versioned: bool
    defines: tuple[str, ...] = ()

    @property
    def is_compiled(self) -> bool:
        """Whether a `[kernel.<name>]` of this backend may exist."""
        return self.language is not None


FACTS: dict[Backend, BackendFacts] = {
    Backend.CANN: BackendFacts(None, "cann", versioned=True),
    Backend.CPU: BackendFacts(Language.CXX, "cpu", versioned=False, defines=("CPU_KERNEL",)),
    Backend.CUDA: BackendFacts(Language.CUDA, "cu", versioned=True, defines=("CUDA_KERNEL", "USE_CUDA")),
    Backend.METAL: BackendFacts(Language.METAL, "metal", versioned=False, defines=("METAL_KERNEL",)),
    Backend.NEURON: BackendFacts(None, "neuron", versioned=False),
    Backend.ROCM: BackendFacts(Language.HIP, "rocm", versioned=True, defines=("ROCM_KERNEL", "USE_ROCM")),
    Backend.TPU: BackendFacts(None, "tpu", versioned=False),
    Backend.XPU: BackendFacts(Language.SYCL, "xpu", versioned=True, defines=("XPU_KERNEL", "USE_XPU")),
}
