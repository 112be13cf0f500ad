"""What an artifact's metadata says about its kernel and about how it was built."""

from __future__ import annotations

from dataclasses import replace

from kernel_builder import __version__
from kernel_builder.artifact.model import BuildRecord, Metadata, Provenance
from kernel_builder.artifact.provenance import SourceState, probe_builder
from kernel_builder.backend import Backend
from kernel_builder.inputs import BuildInputs
from kernel_builder.plan import VariantPlan
from kernel_builder.spec.model import BuildSpec, General, KernelDependency
from kernel_builder.toolchains import Toolkit
from kernel_builder.toolchains.system import Toolchain
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.variant import ArchVariant, TvmFfiAbi

PLATFORM_POLICY = "manylinux_2_28"
_MINVER_OF_DEPENDENCIES = "0.17.2"
"""The first release of the loader that loads the kernels which a kernel depends on."""


def describe_artifact(
    spec: BuildSpec,
    variant: VariantPlan,
    inputs: BuildInputs,
    toolchain: Toolchain,
    *,
    source: SourceState | None,
    torch: TorchSdk | None = None,
    toolkit: Toolkit | None = None,
    flags: tuple[str, ...] = (),
    platform_policy: str | None = PLATFORM_POLICY,
) -> Metadata:
    """Make the metadata of one artifact, without the digest, which only its files can give.

    source: the git state of the project. torch: the one that it is compiled against, if any. toolkit: what compiled its
    device code, if anything. flags: the compiler flags of the variant's sources. platform_policy: what the audit holds
    a compiled Linux artifact to. No clock, no host name and no path goes in, so that equal inputs give equal bytes.
    """
    capabilities = spec.general.capabilities_on(variant.backend)
    record = replace(_record_sources(variant, inputs, source), capabilities=capabilities)
    if isinstance(variant.variant, ArchVariant):
        is_linux = variant.variant.host.os == "linux"
        record = _record_tools(record, variant.variant, toolchain, torch)
        if toolkit is not None:
            unproven = tuple(arch for arch in variant.archs if arch.partition(":")[0] in toolkit.check_only)
            record = replace(record, toolkit=toolkit.description, check_only=unproven)
        record = replace(record, flags=flags, platform_policy=platform_policy if is_linux else None)
    general = spec.general
    kernel_depends = _list_kernel_depends(general, variant.backend)
    return Metadata(
        name=variant.kernel_name,
        id=variant.unique_id,
        version=general.version,
        license=general.license,
        backend=variant.backend,
        archs=variant.archs or None,
        python_depends=_list_python_depends(general, variant.backend),
        kernel_depends=kernel_depends,
        kernels_minver=_MINVER_OF_DEPENDENCIES if kernel_depends else None,
        upstream=general.upstream,
        source=general.source,
        provenance=Provenance(__version__, probe_builder(), None if source is None else source.state),
        record=record,
    )


def _list_python_depends(general: General, backend: Backend) -> tuple[str, ...]:
    own = general.per_backend.get(backend)
    return tuple(dict.fromkeys((*general.python_depends, *(() if own is None else own.python_depends))))


def _list_kernel_depends(general: General, backend: Backend) -> tuple[KernelDependency, ...]:
    own = general.per_backend.get(backend)
    return tuple(dict.fromkeys((*general.kernel_depends, *(() if own is None else own.kernel_depends))))


def _record_sources(variant: VariantPlan, inputs: BuildInputs, source: SourceState | None) -> BuildRecord:
    return BuildRecord(
        variant=str(variant.variant),
        builder_version=__version__,
        inputs=inputs.digest,
        components={component.name: inputs.digest_component(component) for component in variant.components},
        source_commit=None if source is None else source.state.commit,
        source_tree=None if source is None else source.tree,
        source_dirty=None if source is None else source.state.dirty,
    )


def _record_tools(
    record: BuildRecord, variant: ArchVariant, toolchain: Toolchain, torch: TorchSdk | None
) -> BuildRecord:
    cxx = toolchain.cxx
    sdk = toolchain.tvm_ffi if isinstance(variant.abi, TvmFfiAbi) else torch
    version = None if sdk is None else sdk.version
    record = replace(record, compiler=None if cxx is None else f"{cxx.name} {cxx.version}")
    return replace(record, tvm_ffi=version) if isinstance(variant.abi, TvmFfiAbi) else replace(record, torch=version)
