"""What must hold between the parts of a BuildSpec: each rule is a pure function that yields remarks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from kernel_builder.backend import FACTS, Backend
from kernel_builder.python_depends import BACKEND_PYTHON_DEPENDS, PYTHON_DEPENDS
from kernel_builder.spec.locate import KeyPath, render_key
from kernel_builder.spec.model import BuildSpec, KernelDependency, TorchFramework, TorchNoarchFramework
from kernel_builder.spec.remark import Remark, Rule
from kernel_builder.spec.source_rules import (
    check_component_sources,
    check_cuda_paths,
    check_duplicate_sources,
    check_instantiations,
)
from kernel_builder.variant import parse_variant
from kernel_builder.version import MinorVersion

_BACKENDS: KeyPath = ("general", "backends")


def check_some_backend(spec: BuildSpec) -> Iterator[Remark]:
    """There is something to build."""
    if not spec.general.backends:
        message = "`general.backends` is empty: there is nothing to build"
        yield Remark(_BACKENDS, message, 'for example `backends = ["cpu"]`')


def check_duplicate_backends(spec: BuildSpec) -> Iterator[Remark]:
    """Each backend is listed once."""
    for index, backend in enumerate(spec.general.backends):
        if backend in spec.general.backends[:index]:
            yield Remark(
                (*_BACKENDS, index), f"`{backend}` is listed twice in `general.backends`", "remove one of the two"
            )


def check_component_backends(spec: BuildSpec) -> Iterator[Remark]:
    """A component belongs to a declared backend."""
    for component in spec.components:
        if component.backend not in spec.general.backends:
            yield Remark(
                ("kernel", component.name, "backend"),
                f"`kernel.{component.name}` is for `{component.backend}`, which `general.backends` does not list",
                f'add `"{component.backend}"` to `general.backends`, or remove the component',
            )


def check_backends_have_sources(spec: BuildSpec) -> Iterator[Remark]:
    """A compiled backend has sources: components of its own, or those of the framework."""
    if isinstance(spec.framework, TorchNoarchFramework) or spec.framework.src:
        return
    for index, backend in enumerate(spec.general.backends):
        if FACTS[backend].is_compiled and all(component.backend != backend for component in spec.components):
            yield Remark(
                ("general", "backends", index),
                f"there is nothing to compile for `{backend}`: no component is for it, and the framework has no `src`",
                "add a `[kernel.<name>]` for it, or declare a project without compiled code as `[torch-noarch]`",
            )


def check_noarch_components(spec: BuildSpec) -> Iterator[Remark]:
    """A project without compiled code needs no components."""
    if isinstance(spec.framework, TorchNoarchFramework):
        for component in spec.components:
            message = f"`kernel.{component.name}` is not compiled: the project is `[torch-noarch]`"
            yield Remark(("kernel", component.name), message, is_error=False)


def check_version_bounds(spec: BuildSpec) -> Iterator[Remark]:
    """A lower bound is not above its upper bound."""
    cuda = spec.general.per_backend.get(Backend.CUDA)
    bounds: list[tuple[KeyPath, MinorVersion | None, MinorVersion | None]] = []
    if cuda is not None:
        bounds.append((("general", "cuda"), cuda.minver, cuda.maxver))
    if isinstance(spec.framework, TorchFramework):
        bounds.append((("torch",), spec.framework.minver, spec.framework.maxver))
    for path, minver, maxver in bounds:
        if minver is not None and maxver is not None and minver > maxver:
            table = render_key(path)
            message = f"`{table}.minver` is {minver}, which is above `{table}.maxver`, {maxver}: no version fits"
            yield Remark((*path, "minver"), message, "swap the two, or remove one")


def check_cuda_minver(spec: BuildSpec) -> Iterator[Remark]:
    """A component that no CUDA version of the project can build is worth a word."""
    cuda = spec.general.per_backend.get(Backend.CUDA)
    for component in spec.components:
        minver = component.cuda_minver
        if cuda is not None and cuda.maxver is not None and minver is not None and minver > cuda.maxver:
            message = (
                f"`kernel.{component.name}` is never built: it needs CUDA {minver}, "
                f"and `general.cuda.maxver` is {cuda.maxver}"
            )
            yield Remark(("kernel", component.name, "cuda-minver"), message, is_error=False)


def check_python_depends(spec: BuildSpec) -> Iterator[Remark]:
    """Only Python packages that the loader knows how to look for."""
    lists: list[tuple[KeyPath, tuple[str, ...], Collection[str]]] = [
        (("general", "python-depends"), spec.general.python_depends, PYTHON_DEPENDS)
    ]
    for backend, section in spec.general.per_backend.items():
        allowed = BACKEND_PYTHON_DEPENDS.get(backend, {})
        lists.append((("general", backend.value, "python-depends"), section.python_depends, allowed))
    for path, names, known in lists:
        for index, name in enumerate(names):
            if name not in known:
                message = f"`{render_key(path)}` names `{name}`, which the loader does not allow"
                yield Remark((*path, index), message, _suggest_python_depends(name, known))


def _suggest_python_depends(name: str, known: Collection[str]) -> str:
    if name in PYTHON_DEPENDS:
        return "move it to `python-depends` in `[general]`"
    for backend, names in BACKEND_PYTHON_DEPENDS.items():
        if name in names:
            return f"move it to `python-depends` in `[general.{backend}]`"
    return "allowed here: " + (", ".join(f"`{word}`" for word in known) if known else "nothing")


def check_kernel_depends(spec: BuildSpec) -> Iterator[Remark]:
    """One dependency on a repo at a time, and none on the kernel's own."""
    lists: list[tuple[KeyPath, tuple[KernelDependency, ...]]] = [
        (("general", "kernel-depends"), spec.general.kernel_depends)
    ]
    for backend, section in spec.general.per_backend.items():
        lists.append((("general", backend.value, "kernel-depends"), section.kernel_depends))
    for path, dependencies in lists:
        repos = [dependency.repo_id for dependency in dependencies]
        for index in _find_repeats(repos):
            message = f"`{repos[index]}` is listed twice in `{render_key(path)}`"
            yield Remark((*path, index), message, "remove one of the two")
        if spec.general.hub_repo_id in repos:
            index = repos.index(spec.general.hub_repo_id)
            yield Remark((*path, index), f"`{repos[index]}` is the repo of this very kernel", "remove it")


def _find_repeats(values: Sequence[object]) -> Iterator[int]:
    """The indices of values that were there before."""
    seen = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index
        seen.add(value)


def check_idle_backend_tables(spec: BuildSpec) -> Iterator[Remark]:
    """What is said about an undeclared backend has no effect."""
    named = [("general", backend, f"`[general.{backend}]`") for backend in spec.general.per_backend]
    promised = "general.backend-capabilities"
    named += [(promised, backend, f"`{promised}.{backend}`") for backend in spec.general.backend_capabilities]
    if isinstance(spec.framework, TorchFramework):
        stable = "torch.stable-abi"
        named += [(stable, backend, f"`{stable}.{backend}`") for backend in spec.framework.stable_abi]
    for table, backend, shown in named:
        if backend not in spec.general.backends:
            message = f"{shown} has no effect: `general.backends` does not list `{backend}`"
            yield Remark((*table.split("."), backend.value), message, is_error=False)


def check_faces(spec: BuildSpec) -> Iterator[Remark]:
    """A face is a kernel of its own: it has its own name and its own repo, and cannot be taken for a variant."""
    repos = {} if spec.general.hub_repo_id is None else {spec.general.hub_repo_id: "general"}
    for face in spec.faces:
        path = ("face", face.name)
        if face.name == spec.general.name:
            yield Remark(path, f"`face.{face.name}` has the name of the kernel itself", "choose another name")
        if _is_variant_name(face.name):
            yield Remark(path, f"`face.{face.name}` has the name of a variant", "choose another name")
        if face.hub_repo_id is not None:
            owner = repos.setdefault(face.hub_repo_id, f"face.{face.name}")
            if owner != f"face.{face.name}":
                message = f"`face.{face.name}` has the same repo as `{owner}`: `{face.hub_repo_id}`"
                yield Remark((*path, "hub", "repo-id"), message, "each kernel needs a repo of its own")


def _is_variant_name(name: str) -> bool:
    try:
        parse_variant(name)
    except ValueError:
        return False
    return True


RULES: tuple[Rule, ...] = (
    Rule("some-backend", check_some_backend, (_BACKENDS,)),
    Rule("duplicate-backends", check_duplicate_backends),
    Rule("component-backend", check_component_backends, (_BACKENDS,)),
    Rule("backend-sources", check_backends_have_sources, (_BACKENDS, ("kernel",), ("torch",), ("tvm-ffi",))),
    Rule("component-sources", check_component_sources, (("kernel",),)),
    Rule("noarch-components", check_noarch_components),
    Rule("version-bounds", check_version_bounds),
    Rule("cuda-minver", check_cuda_minver),
    Rule("duplicate-sources", check_duplicate_sources),
    Rule("instantiations", check_instantiations),
    Rule("cuda-paths", check_cuda_paths, (("kernel",), ("torch",), ("tvm-ffi",))),
    Rule("python-depends", check_python_depends),
    Rule("kernel-depends", check_kernel_depends),
    Rule("idle-backend-tables", check_idle_backend_tables, (_BACKENDS,)),
    Rule("faces", check_faces, (("general", "name"),)),
)
