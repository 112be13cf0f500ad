"""An artifact and its metadata as values; how metadata is spelled in JSON is told in `metadata`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel_builder.artifact.interface import Interface
from kernel_builder.backend import Backend
from kernel_builder.spec.model import KernelDependency
from kernel_builder.variant import ArchVariant, TvmFfiAbi, Variant

METADATA_FILE = "metadata.json"
SIGNATURE_FILE = "metadata.json.sigstore"


@dataclass(frozen=True, slots=True)
class GitState:
    """A commit (40 or 64 lowercase hex digits), and whether what was built differs from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who built, from what. `builder` and `kernel` are None outside a git checkout."""

    builder_version: str
    builder: GitState | None = None
    kernel: GitState | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash of each file of an artifact: path relative to it, with `/`, -> standard base64."""

    algorithm: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What we record beyond the loader's needs, under one key that it ignores.

    variant: name of the artifact. inputs: sha256 over all inputs. components: sha256 of each linked component's
    files. compiler, toolkit: name and version, of host and of device code. check_only: archs whose code shows that the
    sources compile, and nothing more. flags: distinct compiler flags without paths, in order of appearance. torch,
    tvm_ffi: full version compiled against. platform_policy: the manylinux policy that the audit holds it to.
    source_tree: git tree of the project's directory in the source commit. capabilities: what the author says users may
    rely on. interface: what they can call. tests: results that a test run added.
    """

    variant: str
    builder_version: str
    inputs: str
    components: Mapping[str, str] = field(default_factory=dict)
    compiler: str | None = None
    toolkit: str | None = None
    check_only: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    torch: str | None = None
    tvm_ffi: str | None = None
    platform_policy: str | None = None
    source_commit: str | None = None
    source_tree: str | None = None
    source_dirty: bool | None = None
    capabilities: tuple[str, ...] = ()
    interface: Interface | None = None
    tests: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """All of a `metadata.json`. Artifacts of other builders have no `record`, and may lack provenance and digest."""

    name: str
    id: str
    version: int
    license: str
    backend: Backend
    archs: tuple[str, ...] | None = None
    python_depends: tuple[str, ...] = ()
    kernel_depends: tuple[KernelDependency, ...] = ()
    kernels_minver: str | None = None
    upstream: str | None = None
    source: str | None = None
    digest: Digest | None = None
    provenance: Provenance | None = None
    record: BuildRecord | None = None

    @property
    def python_name(self) -> str:
        """The import name: dashes become underscores."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One variant on disk: a directory named after it, with the Python package, the library and `metadata.json`."""

    path: Path
    variant: Variant
    metadata: Metadata

    @property
    def library(self) -> Path | None:
        """The shared library that a compiled artifact has."""
        if not isinstance(self.variant, ArchVariant):
            return None
        if isinstance(self.variant.abi, TvmFfiAbi):
            suffix = {"darwin": ".dylib", "windows": ".dll"}.get(self.variant.host.os, ".so")
        else:
            suffix = ".pyd" if self.variant.host.os == "windows" else ".abi3.so"
        return self.path / f"{self.metadata.id}{suffix}"
