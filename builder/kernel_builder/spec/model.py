"""What the author of a `build.toml` wrote, parsed and valid. Knows no machine, no torch, no compiler.

Every path is relative to the project's root, uses `/`, and stays inside it. Every collection is a tuple in the
order of the file, components sorted by name, so that equal declarations are equal values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from kernel_builder.backend import Backend
from kernel_builder.version import MinorVersion


class Dependency(StrEnum):
    """What a component's `depends` may name."""

    TORCH = "torch"
    CUTLASS_2_10 = "cutlass_2_10"
    CUTLASS_3_5 = "cutlass_3_5"
    CUTLASS_3_6 = "cutlass_3_6"
    CUTLASS_3_8 = "cutlass_3_8"
    CUTLASS_3_9 = "cutlass_3_9"
    CUTLASS_4_0 = "cutlass_4_0"
    CUTLASS_4_4 = "cutlass_4_4"
    CUTLASS_4_5 = "cutlass_4_5"
    SYCL_TLA = "sycl_tla"
    METAL_CPP = "metal-cpp"


@dataclass(frozen=True, slots=True)
class KernelDependency:
    """A kernel on the Hub that must be loaded first; exactly one of `version` and `revision` is set."""

    repo_id: str
    version: int | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class BackendGeneral:
    """`[general.cuda]`, `[general.xpu]`, `[general.neuron]`, `[general.tpu]`."""

    minver: MinorVersion | None = None
    maxver: MinorVersion | None = None
    python_depends: tuple[str, ...] = ()
    kernel_depends: tuple[KernelDependency, ...] = ()


@dataclass(frozen=True, slots=True)
class General:
    """`[general]`: what the kernel is called, and where it may run."""

    name: str
    version: int
    license: str
    backends: tuple[Backend, ...]
    upstream: str | None = None
    source: str | None = None
    python_depends: tuple[str, ...] = ()
    kernel_depends: tuple[KernelDependency, ...] = ()
    capabilities: tuple[str, ...] = ()
    backend_capabilities: dict[Backend, tuple[str, ...]] = field(default_factory=dict)
    hub_repo_id: str | None = None
    hub_branch: str | None = None
    per_backend: dict[Backend, BackendGeneral] = field(default_factory=dict)

    @property
    def python_name(self) -> str:
        """The import name: dashes become underscores."""
        return self.name.replace("-", "_")

    def capabilities_on(self, backend: Backend) -> tuple[str, ...]:
        """What users may rely on there: on every backend, and on this one, sorted."""
        return tuple(sorted({*self.capabilities, *self.backend_capabilities.get(backend, ())}))


@dataclass(frozen=True, slots=True)
class TorchFramework:
    """`[torch]`: an extension compiled against torch, in the classic or in the stable ABI of each backend."""

    src: tuple[PurePosixPath, ...] = ()
    include: tuple[PurePosixPath, ...] = ()
    pyext: tuple[str, ...] = ("py", "pyi")
    minver: MinorVersion | None = None
    maxver: MinorVersion | None = None
    stable_abi: dict[Backend, MinorVersion] = field(default_factory=dict)
    cxx_flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TorchNoarchFramework:
    """`[torch-noarch]`: Python sources only (Triton, Helion, CuTe DSL, plain torch)."""

    pyext: tuple[str, ...] = ("py", "pyi")
    cuda_capabilities: tuple[str, ...] = ()
    rocm_archs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TvmFfiFramework:
    """`[tvm-ffi]`: an extension compiled against tvm-ffi."""

    src: tuple[PurePosixPath, ...]
    include: tuple[PurePosixPath, ...] = ()
    pyext: tuple[str, ...] = ("py", "pyi")
    cxx_flags: tuple[str, ...] = ()


Framework: TypeAlias = TorchFramework | TorchNoarchFramework | TvmFfiFramework


AxisValue: TypeAlias = str | int | bool
TEMPLATE_SUFFIX = ".j2"


@dataclass(frozen=True, slots=True)
class Instantiation:
    """One translation unit that is made of a template. It lies in the generated project alone.

    path: where in the project it would stand, beside its template. values: variable of the template -> its value.
    """

    path: PurePosixPath
    template: PurePosixPath
    values: dict[str, AxisValue]


@dataclass(frozen=True, slots=True)
class InstantiationMatrix:
    """`[[kernel.<name>.instantiate]]`: a template, and the values of its variables.

    axes: sorted by name, since the order of keys means nothing in TOML. exclude: the points without a unit; each entry
    stands for all points that have its values.
    """

    template: PurePosixPath
    axes: dict[str, tuple[AxisValue, ...]]
    exclude: tuple[dict[str, AxisValue], ...] = ()

    @property
    def source_suffix(self) -> str:
        """The suffix of its units: `.cu` for `forward.cu.j2`."""
        return PurePosixPath(self.template.stem).suffix

    @property
    def instantiations(self) -> tuple[Instantiation, ...]:
        """One unit for each point of the product that is not excluded; the last axis runs fastest."""
        points = (dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values()))
        return tuple(
            Instantiation(
                self.template.with_name(name_unit(self.template, point)),
                self.template,
                {name_variable(axis): value for axis, value in point.items()},
            )
            for point in points
            if not any(entry.items() <= point.items() for entry in self.exclude)
        )


def name_variable(axis: str) -> str:
    """The name of an axis in a template: dashes become underscores."""
    return axis.replace("-", "_")


def name_unit(template: PurePosixPath, point: dict[str, AxisValue]) -> str:
    """The file name of a unit: that of the template, with the values of the axes before the suffix.

    A boolean is told by the name of its axis: `causal` or `no_causal`.
    """
    source = PurePosixPath(template.name.removesuffix(TEMPLATE_SUFFIX))
    words = [source.stem]
    for axis, value in point.items():
        words.append(str(value) if not isinstance(value, bool) else f"{'' if value else 'no_'}{name_variable(axis)}")
    return "_".join(words) + source.suffix


@dataclass(frozen=True, slots=True)
class Component:
    """`[kernel.<name>]`: sources for one backend. Keys of other backends keep their empty default.

    src: what the author lists; what is compiled has the units of `instantiate` beside it, see `sources`.
    """

    name: str
    backend: Backend
    depends: tuple[Dependency, ...]
    src: tuple[PurePosixPath, ...]
    include: tuple[PurePosixPath, ...] = ()
    cxx_flags: tuple[str, ...] = ()
    cuda_capabilities: tuple[str, ...] = ()
    cuda_flags: tuple[str, ...] = ()
    cuda_minver: MinorVersion | None = None
    rocm_archs: tuple[str, ...] = ()
    hip_flags: tuple[str, ...] = ()
    sycl_flags: tuple[str, ...] = ()
    instantiate: tuple[InstantiationMatrix, ...] = ()

    @property
    def instantiations(self) -> tuple[Instantiation, ...]:
        """The units that are made of its templates."""
        return tuple(unit for matrix in self.instantiate for unit in matrix.instantiations)

    @property
    def templates(self) -> tuple[PurePosixPath, ...]:
        """The files that its units are made of."""
        return tuple(dict.fromkeys(matrix.template for matrix in self.instantiate))

    @property
    def sources(self) -> tuple[PurePosixPath, ...]:
        """The listed files, and the units as if they stood beside their templates."""
        return (*self.src, *(unit.path for unit in self.instantiations))

    @property
    def needs_torch(self) -> bool:
        """Whether its objects depend on torch's ABI; if not, they are compiled once for every ABI."""
        return Dependency.TORCH in self.depends


@dataclass(frozen=True, slots=True)
class Face:
    """`[face.<name>]`: a further kernel of the same sources, with a Python package and a Hub repo of its own.

    Its package is the project's own package with the files of `<extension dir>/<python name>/` laid over it.
    """

    name: str
    hub_repo_id: str | None = None

    @property
    def python_name(self) -> str:
        """The import name: dashes become underscores."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """One kernel project: a valid `build.toml` and the directory that it describes."""

    root: Path
    edition: int
    general: General
    framework: Framework
    components: tuple[Component, ...] = ()
    faces: tuple[Face, ...] = ()

    @property
    def extension_dir(self) -> PurePosixPath:
        """The directory that holds the Python package: `torch-ext` or `tvm-ffi-ext`.

        It lies at the root, or is the directory of that name which the framework's sources go through.
        """
        name = "tvm-ffi-ext" if isinstance(self.framework, TvmFfiFramework) else "torch-ext"
        if not isinstance(self.framework, TorchNoarchFramework):
            for path in self.framework.src:
                if name in path.parts[:-1]:
                    return PurePosixPath(*path.parts[: path.parts.index(name) + 1])
        return PurePosixPath(name)
