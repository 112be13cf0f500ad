"""The values of a plan: what the machine offers, what will be made on it, and what will not."""

from __future__ import annotations

from dataclasses import dataclass

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.spec.model import BuildSpec, Component
from kernel_builder.variant import Variant
from kernel_builder.version import MinorVersion


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """One build that a torch release is published as. toolkit: None for backends without one."""

    backend: Backend
    toolkit: MinorVersion | None
    host: HostPlatform


@dataclass(frozen=True, slots=True)
class TorchRelease:
    """A torch release line that can be compiled against, from the matrix or from an installed torch.

    cxx_standard: the one that its headers need. cxx11: its C++ string ABI on Linux. python: the oldest Python that it
    runs on, None if nobody told. builds: what it is published for, None when that is not known, and then it is taken
    to be published for everything.
    """

    release: MinorVersion
    cxx_standard: int = 17
    cxx11: bool = True
    python: MinorVersion | None = None
    builds: frozenset[TorchBuild] | None = None


@dataclass(frozen=True, slots=True)
class ToolchainKey:
    """Which compilers serve a variant. There is one generated project, and one work directory, for each key.

    toolkit: the version of the device toolkit, None for backends without one. host: the platform that is compiled
    for, None for that of the machine itself.
    """

    backend: Backend
    toolkit: MinorVersion | None = None
    host: HostPlatform | None = None

    def __str__(self) -> str:
        """For example `cpu`, `cuda-13.0`, `cpu-aarch64-linux`: a name for directories and messages."""
        return "-".join(str(part) for part in (self.backend, self.toolkit, self.host) if part is not None)


@dataclass(frozen=True, slots=True)
class ToolchainOffer:
    """A toolchain that variants can be planned for.

    description: what it is, such as `gcc 12.2.0` or `nvcc 13.0.88`; empty where it is only assumed. fetched: whether
    a build downloads it first. remedy: the command without which a build cannot begin, None when it can. archs: the
    device archs that its compilers know, empty when they know all that the toolkit stands for. check_only: those of
    them for which its libraries are too old, so that code compiles and nobody vouches for it.
    """

    key: ToolchainKey
    description: str = ""
    fetched: bool = False
    remedy: str | None = None
    archs: tuple[str, ...] = ()
    check_only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolchainLack:
    """A toolchain that nothing brings to this machine, and why, in one sentence.

    A key without toolkit, of a backend that has them, stands for all of these.
    """

    key: ToolchainKey
    reason: str


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """What the machine offers, as far as a plan depends on it.

    host: the machine itself. torches: the releases to plan for; none: compiled torch variants cannot be planned.
    offers and lacks: of all backends that the project may want. tvm_ffi: release line of the tvm-ffi at hand, None if
    there is none. platforms: those that the user wants to hear about, whether something compiles for them or not.
    """

    host: HostPlatform
    torches: tuple[TorchRelease, ...] = ()
    offers: tuple[ToolchainOffer, ...] = ()
    lacks: tuple[ToolchainLack, ...] = ()
    tvm_ffi: MinorVersion | None = None
    platforms: tuple[HostPlatform, ...] = ()


@dataclass(frozen=True, slots=True)
class TorchSdkKey:
    """The torch that a variant is compiled against: its headers, and the names of its libraries.

    backend, toolkit and host name the build, as far as it matters: the stable ABI is the same in all, so its variants
    say `cpu`.
    """

    release: MinorVersion
    backend: Backend
    toolkit: MinorVersion | None
    host: HostPlatform

    def __str__(self) -> str:
        device = str(self.backend) if self.toolkit is None else f"{self.backend} {self.toolkit}"
        return f"torch {self.release} for {device} on {self.host}"


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One artifact to make.

    kernel_name: the name in `[general]`, or of the face. unique_id: Python identifier of the module, of the op
    namespace and, with `.abi3.so`, of the shared library. components: the ones linked into it, by name; their archs
    and flags are the decided ones, not those that the author asked for. archs: device archs inside the artifact,
    sorted (empty for cpu). cxx_standard: the C++ standard of the sources that are compiled for its ABI, None where
    nothing is compiled. toolchain: what compiles it. sdk: the torch that it is compiled against, if any.
    """

    kernel_name: str
    variant: Variant
    unique_id: str
    toolchain: ToolchainKey
    components: tuple[Component, ...] = ()
    archs: tuple[str, ...] = ()
    cxx_standard: int | None = None
    sdk: TorchSdkKey | None = None

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
    def toolchains(self) -> tuple[ToolchainKey, ...]:
        """The toolchains that serve a variant, sorted by name: there is one generated project for each."""
        return tuple(sorted({variant.toolchain for variant in self.variants}, key=str))

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that have a variant, sorted."""
        return tuple(sorted({variant.backend for variant in self.variants}))

    def list_variants(self, toolchain: ToolchainKey) -> tuple[VariantPlan, ...]:
        """The variants that one toolchain serves, in the order of the plan."""
        return tuple(variant for variant in self.variants if variant.toolchain == toolchain)
