"""The values of a plan: what the machine offers, what will be made on it, and what will not."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.spec.model import BuildSpec, Component
from kernel_builder.variant import Variant
from kernel_builder.version import MinorVersion


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """What the machine offers, as far as a plan depends on it.

    torch: release line of the torch whose headers are at hand (None: no torch, so compiled torch variants cannot be
    planned). torch_cxx11: its C++ ABI on Linux. torch_backends: the backends whose device libraries that torch
    brings, beside the CPU (None: all that have a toolkit). toolkits: a versioned backend -> the version of its
    toolkit. tvm_ffi: release line of the tvm-ffi at hand, None if there is none.
    """

    host: HostPlatform
    torch: MinorVersion | None
    torch_cxx11: bool | None = True
    toolkits: dict[Backend, MinorVersion] = field(default_factory=dict)
    torch_backends: frozenset[Backend] | None = None
    tvm_ffi: MinorVersion | None = None


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One artifact to make.

    kernel_name: the name in `[general]`, or of the face. unique_id: Python identifier of the module, of the op
    namespace and, with `.abi3.so`, of the shared library. components: the ones linked into it, by name; their archs
    and flags are the decided ones, not those that the author asked for. archs: device archs inside the artifact,
    sorted (empty for cpu). cxx_standard: the C++ standard of all its sources, None where nothing is compiled.
    """

    kernel_name: str
    variant: Variant
    unique_id: str
    components: tuple[Component, ...] = ()
    archs: tuple[str, ...] = ()
    cxx_standard: int | None = None

    @property
    def backend(self) -> Backend:
        """The device family that the artifact is for."""
        return self.variant.backend

    @property
    def python_name(self) -> str:
        """The import name of its package."""
        return self.kernel_name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A backend, component or variant that is declared but not in the plan, and why, in one sentence."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """All variants of a project on a machine, sorted by kernel and variant name."""

    spec: BuildSpec
    environment: BuildEnvironment
    variants: tuple[VariantPlan, ...]
    excluded: tuple[Exclusion, ...] = ()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that have a variant, sorted: there is one generated project for each."""
        return tuple(sorted({variant.backend for variant in self.variants}))
