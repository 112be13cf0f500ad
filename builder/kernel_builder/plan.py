"""Stage 2: BuildSpec -> BuildPlan. Everything that is decided about every variant, decided here and only here.

Pure: the host, the toolchains and the torch found on the machine come in as values (`BuildEnvironment`).
"""

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

    `torch` is the release line of the torch whose headers are at hand (None: no torch, so compiled torch
    variants cannot be planned); `toolkits` maps a versioned backend to the version of its toolkit.
    """

    host: HostPlatform
    torch: MinorVersion | None
    torch_cxx11: bool | None = True
    toolkits: dict[Backend, MinorVersion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One artifact to make.

    kernel_name: the name in `[general]`, or of the face. unique_id: Python identifier of the module, of the op
    namespace and, with `.abi3.so`, of the shared library. components: the ones linked into it, by name.
    archs: device archs inside the artifact, sorted (empty for cpu).
    """

    kernel_name: str
    variant: Variant
    unique_id: str
    components: tuple[Component, ...] = ()
    archs: tuple[str, ...] = ()

    @property
    def backend(self) -> Backend:
        """The device family that the artifact is for."""
        return self.variant.backend


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A backend or variant that is declared but not in the plan, and why, in one sentence."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """All variants of a project on a machine, sorted by kernel and variant name."""

    spec: BuildSpec
    environment: BuildEnvironment
    variants: tuple[VariantPlan, ...]
    excluded: tuple[Exclusion, ...] = ()
