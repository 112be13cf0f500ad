"""Stage 3: BuildPlan -> FileSet. One CMake project for each toolchain, one target in it for each variant and face.

The templates are lists of calls; what the calls do is in plain CMake modules, which are copied beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from kernel_builder.backend import FACTS, Backend, Language
from kernel_builder.plan import BuildPlan, ToolchainKey, TorchSdkKey, VariantPlan
from kernel_builder.render.components import list_components, list_libraries
from kernel_builder.render.environment import read_template, render_template
from kernel_builder.render.fileset import FileSet
from kernel_builder.spec.model import BuildSpec
from kernel_builder.spec.unit_template import parse_template
from kernel_builder.variant import ArchVariant, NoarchVariant, TorchAbi, TorchStableAbi, TvmFfiAbi

_MODULES = ("KernelCompat", "KernelPackage", "KernelProject", "KernelToolchain", "KernelUnits")
_BACKEND_FILES: dict[Backend, tuple[str, ...]] = {
    # The first one is copied as the backend of the project, the others under their own names.
    Backend.CPU: ("backend/Cpu.cmake",),
    Backend.CUDA: ("backend/Cuda.cmake",),
    Backend.METAL: (
        "backend/Metal.cmake",
        "EmbedMetallib.cmake",
        "EmbedShaders.cmake",
        "kernel_metallib.h.in",
        "kernel_shaders.h.in",
        "shaders_only.cpp",
    ),
    Backend.ROCM: ("backend/Rocm.cmake", "hipify.py"),
    Backend.XPU: ("backend/Xpu.cmake",),
}
UNITS = "units"
"""The directory of a generated project that holds what was made of templates, by the place beside these."""

_SDK_VARIABLE = "KERNEL_TORCH_SDK"
_COMPAT = ("clocks.c", "cxx.cpp", "files.c", "forward.h", "math.c", "numbers.c", "single_threaded.c", "threads.c")
_LANGUAGES = {
    Language.CXX: ("C", "CXX"),
    Language.CUDA: ("C", "CXX", "CUDA"),
    Language.HIP: ("C", "CXX", "HIP"),
    Language.METAL: ("C", "CXX", "OBJC", "OBJCXX"),
    Language.SYCL: ("C", "CXX"),
}


def render_project(
    plan: BuildPlan, toolchain: ToolchainKey, templates: Mapping[PurePosixPath, str] | None = None
) -> FileSet:
    """Write the project that builds all variants of one toolchain, in memory.

    templates: the text of each template that its components name. Equal plans and templates give equal bytes, wherever
    the kernel project lies. The project is configured with `KERNEL_PROJECT_DIR`, the directory of `build.toml`, and for
    variants that are compiled against torch with `list_sdk_variables`. It installs `<kernel name>/<variant>/...`.

    Raises `ValueError` when the plan has no variant of that toolchain.
    """
    variants = plan.list_variants(toolchain)
    if not variants:
        raise ValueError(f"the plan has no variant for `{toolchain}`")
    noarch = isinstance(variants[0].variant, NoarchVariant)
    files = _render_noarch(plan, variants) if noarch else _render_compiled(plan, variants)
    files["pyproject.toml"] = render_template(
        "pyproject.toml.j2",
        name=plan.spec.general.name,
        version=str(plan.spec.general.version),
        is_noarch=noarch,
        is_abi3=not noarch and _framework(variants[0]) != "tvm-ffi",
    )
    for variant in variants:
        files[f"ops/{variant.unique_id}/_ops.py"] = _render_ops(variant)
    for component in variants[0].components:
        for unit in component.instantiations:
            template = parse_template((templates or {})[unit.template])
            files[f"{UNITS}/{unit.path}"] = template.render(unit.values)
    return FileSet({PurePosixPath(path): content for path, content in files.items()})


def _render_noarch(plan: BuildPlan, variants: tuple[VariantPlan, ...]) -> dict[str, bytes]:
    values = {
        "project": plan.spec.general.name,
        "variants": [_variant_values(plan.spec, variant) for variant in variants],
        "patterns": _package_patterns(plan.spec),
    }
    return {
        "CMakeLists.txt": render_template("noarch.cmake.j2", **values),
        "cmake/KernelPackage.cmake": read_template("cmake/KernelPackage.cmake"),
    }


def list_sdk_variables(variants: Iterable[VariantPlan]) -> dict[str, TorchSdkKey]:
    """CMake variable -> the torch whose directory, with `include` and `lib`, it is to hold.

    `KERNEL_TORCH_SDK` is the newest release; older ones beside it have their digits in the name.
    """
    keys = {variant.sdk.release: variant.sdk for variant in variants if variant.sdk is not None}
    newest = max(keys, default=None)
    return {
        _SDK_VARIABLE if release == newest else f"{_SDK_VARIABLE}_{release.compact}": key
        for release, key in sorted(keys.items())
    }


def _render_compiled(plan: BuildPlan, variants: tuple[VariantPlan, ...]) -> dict[str, bytes]:
    first = variants[0]
    backend, language = first.backend, FACTS[first.backend].language
    if language is None or not isinstance(first.variant, ArchVariant):
        raise ValueError(f"nothing is compiled for `{backend}`")
    tvm_ffi = first.variant.abi.version if isinstance(first.variant.abi, TvmFfiAbi) else None
    toolkit = first.variant.backend_version
    standard = max(variant.cxx_standard or 0 for variant in variants)
    values = {
        "project": plan.spec.general.name,
        "languages": _LANGUAGES[language],
        "backend": str(backend),
        "toolkit": None if toolkit is None else str(toolkit),
        "host": str(first.variant.host),
        "cxx_standard": str(standard),
        "defines": FACTS[backend].defines,
        "torches": [str(key.release) for key in list_sdk_variables(variants).values()],
        "tvm_ffi": None if tvm_ffi is None else str(tvm_ffi),
        "libraries": list_libraries(first),
        "variants": [_variant_values(plan.spec, variant) for variant in variants],
        "patterns": _package_patterns(plan.spec),
        "components": list_components(plan.spec, variants, standard),
    }
    return {
        "CMakeLists.txt": render_template("CMakeLists.txt.j2", **values),
        "include/registration.h": read_template("include/registration.h"),
        "nameless/nameless.h": read_template("nameless/nameless.h"),
        **_copy_modules(backend, is_tvm_ffi=tvm_ffi is not None, with_libraries=bool(values["libraries"])),
        **{f"compat/{source}": read_template(f"compat/{source}") for source in _COMPAT},
    }


def _copy_modules(backend: Backend, *, is_tvm_ffi: bool, with_libraries: bool) -> dict[str, bytes]:
    own, *others = _BACKEND_FILES[backend]
    framework = "framework/TvmFfi.cmake" if is_tvm_ffi else "framework/Torch.cmake"
    names = [f"{module}.cmake" for module in (*_MODULES, *(["KernelLibraries"] if with_libraries else []))]
    copies = {
        "KernelBackend.cmake": own,
        "KernelFramework.cmake": framework,
        **{name: name for name in (*names, *others)},
    }
    return {f"cmake/{name}": read_template(f"cmake/{source}") for name, source in copies.items()}


def _variant_values(spec: BuildSpec, variant: VariantPlan) -> dict[str, Any]:
    """What the templates say about one variant. `packages` are laid over each other, the first one is the base."""
    names = [spec.general.python_name]
    if variant.kernel_name != spec.general.name:
        names.append(variant.python_name)
    return {
        "unique_id": variant.unique_id,
        "kernel_name": variant.kernel_name,
        "name": str(variant.variant),
        "framework": _framework(variant),
        "torch": None if variant.sdk is None else str(variant.sdk.release),
        "name_macro": "TVM_FFI_EXTENSION_NAME" if _framework(variant) == "tvm-ffi" else "TORCH_EXTENSION_NAME",
        "defines": _abi_defines(variant),
        "packages": [spec.extension_dir / name for name in names],
    }


def _framework(variant: VariantPlan) -> str:
    """Whose ABI the variant is linked against: `torch`, `torch-stable-abi` or `tvm-ffi`; empty for Python only."""
    if isinstance(variant.variant, NoarchVariant):
        return ""
    match variant.variant.abi:
        case TorchAbi():
            return "torch"
        case TorchStableAbi():
            return "torch-stable-abi"
        case TvmFfiAbi():
            return "tvm-ffi"


def _abi_defines(variant: VariantPlan) -> tuple[str, ...]:
    if isinstance(variant.variant, NoarchVariant):
        return ()
    match variant.variant.abi:
        case TorchAbi(cxx11=cxx11):
            return () if cxx11 is None else (f"_GLIBCXX_USE_CXX11_ABI={int(cxx11)}",)
        case TorchStableAbi(version=version):
            target = (version.major << 56) | (version.minor << 48)
            return (f"TORCH_TARGET_VERSION=0x{target:016x}",)
        case TvmFfiAbi():
            return ()


def _package_patterns(spec: BuildSpec) -> tuple[str, ...]:
    """Globs of the files that are shipped from the Python package."""
    return tuple(sorted({f"*.{extension.lstrip('.')}" for extension in spec.framework.pyext}))


def _render_ops(variant: VariantPlan) -> bytes:
    templates = {"": "ops/noarch.py.j2", "tvm-ffi": "ops/tvm_ffi.py.j2"}
    template = templates.get(_framework(variant), "ops/torch.py.j2")
    return render_template(template, unique_id=variant.unique_id)
