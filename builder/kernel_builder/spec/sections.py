"""The tables of a `build.toml`, each turned into its part of the BuildSpec.

Values that were refused are left out, so that the rules still see the rest; the caller drops the spec when there
were problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from kernel_builder.backend import Backend
from kernel_builder.spec import schema
from kernel_builder.spec.archs import is_known_capability, parse_cuda_capability, parse_rocm_arch
from kernel_builder.spec.fields import Fields
from kernel_builder.spec.locate import render_key
from kernel_builder.spec.matrices import MatrixReader
from kernel_builder.spec.model import (
    BackendGeneral,
    BuildSpec,
    Component,
    Face,
    Framework,
    General,
    KernelDependency,
    TorchFramework,
    TorchNoarchFramework,
    TvmFfiFramework,
)
from kernel_builder.spec.names import (
    parse_backend,
    parse_branch,
    parse_capability,
    parse_compiled_backend,
    parse_compiled_path,
    parse_component_name,
    parse_cuda_flag,
    parse_dependency,
    parse_flag,
    parse_git_url,
    parse_kernel_name,
    parse_loose_version,
    parse_python_extension,
    parse_repo_id,
    parse_text,
    parse_version,
)
from kernel_builder.spec.problems import BadValueError, ProblemCollector, show
from kernel_builder.version import MinorVersion

T = TypeVar("T")
_DEFAULT_PYEXT = ("py", "pyi")
_UNKNOWN_LICENSE = "unknown"


class SectionReader:
    """Reads the sections of one file in one edition."""

    def __init__(self, root: Path, edition: int, collector: ProblemCollector) -> None:
        self._root = root
        self._edition = edition
        self._collector = collector
        self._matrices = MatrixReader(collector)
        self._parse_version = parse_version if edition == schema.NEWEST_EDITION else parse_loose_version

    def read(self, document: Fields) -> BuildSpec | None:
        """The whole file. None when there is no readable `[general]` or no framework."""
        table = document.table_at("general", schema.GENERAL)
        general = None if table is None else self._read_general(table)
        framework = self._read_framework(document, () if general is None else general.backends)
        components = [self._read_component(*named) for named in document.named_tables("kernel", _choose_component)]
        faces = [self._read_face(*named) for named in document.named_tables("face", _choose_face)]
        if general is None or framework is None:
            return None
        return BuildSpec(
            self._root,
            self._edition,
            general,
            framework,
            tuple(component for component in components if component is not None),
            tuple(face for face in faces if face is not None),
        )

    def _read_general(self, table: Fields) -> General:
        hub = table.table_at("hub", schema.HUB)
        per_backend = {
            backend: self._read_backend_general(fields)
            for backend, section in schema.BACKEND_GENERAL.items()
            if (fields := table.table_at(backend.value, section)) is not None
        }
        table.integer("edition")
        version = table.integer("version")
        license_id = table.parsed("license", parse_text)
        if license_id is None and not table.has("license"):
            license_id = _UNKNOWN_LICENSE
            self._collector.notice(("general",), f"no `license` is declared: metadata will say `{license_id}`")
        return General(
            name=table.parsed("name", self._parse_name) or "",
            version=1 if version is None else version,
            license=license_id or "",
            backends=table.parsed_list("backends", parse_backend),
            upstream=table.parsed("upstream", parse_git_url),
            source=table.parsed("source", parse_git_url),
            python_depends=table.parsed_list("python-depends", parse_text),
            kernel_depends=self._read_kernel_depends(table),
            capabilities=table.parsed_list("capabilities", parse_capability),
            backend_capabilities=self._read_backend_capabilities(table),
            hub_repo_id=None if hub is None else hub.parsed("repo-id", parse_repo_id),
            hub_branch=None if hub is None else hub.parsed("branch", parse_branch),
            per_backend=per_backend,
        )

    def _parse_name(self, text: str) -> str:
        """A kernel name; older editions allowed underscores, which the loader does not."""
        dashed = text.replace("_", "-")
        if self._edition < schema.NEWEST_EDITION and dashed != text:
            name = parse_kernel_name(dashed)
            self._collector.notice(
                ("general", "name"), f"the kernel is called `{name}`: `{show(text)}` has underscores"
            )
            return name
        return parse_kernel_name(text)

    def _read_backend_capabilities(self, table: Fields) -> dict[Backend, tuple[str, ...]]:
        own = table.table_at("backend-capabilities", schema.BACKEND_CAPABILITIES)
        if own is None:
            return {}
        return {backend: own.parsed_list(backend, parse_capability) for backend in Backend if own.has(backend)}

    def _read_backend_general(self, table: Fields) -> BackendGeneral:
        return BackendGeneral(
            minver=table.parsed("minver", self._parse_version),
            maxver=table.parsed("maxver", self._parse_version),
            python_depends=table.parsed_list("python-depends", parse_text),
            kernel_depends=self._read_kernel_depends(table),
        )

    def _read_kernel_depends(self, table: Fields) -> tuple[KernelDependency, ...]:
        found: dict[int, KernelDependency] = {}
        for fields in table.tables_at("kernel-depends", schema.KERNEL_DEPENDENCY):
            repo_id = fields.parsed("repo-id", parse_repo_id)
            version = fields.integer("version")
            revision = fields.parsed("revision", parse_branch)
            if fields.has("version") == fields.has("revision"):
                what = "both `version` and" if fields.has("version") else "neither `version` nor"
                fields.refuse_table(f"{fields.title} has {what} `revision`", "write exactly one of the two")
            elif repo_id is not None:
                found[int(fields.path[-1])] = KernelDependency(repo_id, version, revision)
        self._collector.keep((*table.path, "kernel-depends"), tuple(found))
        return tuple(found.values())

    def _read_framework(self, document: Fields, backends: tuple[Backend, ...]) -> Framework | None:
        sections = {"torch": schema.TORCH, "torch-noarch": schema.TORCH_NOARCH, "tvm-ffi": schema.TVM_FFI}
        present = [name for name in document.values if name in sections]
        if not present:
            if self._edition == schema.OLDEST_EDITION:
                return TorchNoarchFramework()
            document.refuse_table("the file has no framework", "add one of `[torch]`, `[torch-noarch]` and `[tvm-ffi]`")
            return None
        for other in present[1:]:
            document.refuse(
                other, f"a file has one framework: `{present[0]}` is declared already", "remove one of the two"
            )
        table = document.table_at(present[0], sections[present[0]])
        if table is None:
            return None
        match present[0]:
            case "torch":
                return self._read_torch(table, backends)
            case "torch-noarch":
                return self._read_noarch(table)
            case _:
                return self._read_tvm_ffi(table)

    def _read_torch(self, table: Fields, backends: tuple[Backend, ...]) -> TorchFramework:
        return TorchFramework(
            src=table.parsed_list("src", parse_compiled_path),
            include=table.parsed_list("include", parse_compiled_path),
            pyext=_distinct(table.parsed_list("pyext", parse_python_extension)) or _DEFAULT_PYEXT,
            minver=table.parsed("minver", self._parse_version),
            maxver=table.parsed("maxver", self._parse_version),
            stable_abi=self._read_stable_abi(table, backends),
            cxx_flags=table.parsed_list("cxx-flags", parse_flag),
        )

    def _read_stable_abi(self, table: Fields, backends: tuple[Backend, ...]) -> dict[Backend, MinorVersion]:
        if isinstance(table.values.get("stable-abi"), dict):
            fields = table.table_at("stable-abi", schema.STABLE_ABI)
            versions = {} if fields is None else {name: fields.parsed(name, self._parse_version) for name in Backend}
            return {backend: version for backend, version in versions.items() if version is not None}
        version = table.parsed("stable-abi", self._parse_version)
        return {} if version is None else dict.fromkeys(backends, version)

    def _read_noarch(self, table: Fields) -> TorchNoarchFramework:
        return TorchNoarchFramework(
            pyext=_distinct(table.parsed_list("pyext", parse_python_extension)) or _DEFAULT_PYEXT,
            cuda_capabilities=self._read_capabilities(table, self._one_spelling(table, "cuda-capabilities")),
            rocm_archs=_distinct(table.parsed_list(self._one_spelling(table, "rocm-archs"), parse_rocm_arch)),
        )

    def _read_capabilities(self, table: Fields, key: str) -> tuple[str, ...]:
        """The capabilities that GPUs have; others are dropped as long as some remain, as kernel authors are used to."""
        listed = table.parsed_list(key, parse_cuda_capability)
        known = _distinct(capability for capability in listed if is_known_capability(capability))
        for index, capability in enumerate(listed):
            path = (*table.path, key, index)
            if not is_known_capability(capability):
                message = f"`{render_key(path)}` is a CUDA capability that no GPU has: `{capability}`"
                if known:
                    self._collector.notice(path, message + "; it is left out")
                else:
                    self._collector.refuse(path, message, "write it as `8.0`, `9.0a` or `9.0+PTX`")
        return known

    def _one_spelling(self, table: Fields, dashed: str) -> str:
        """The loader's parser wants underscores here, its documentation dashes: either is read, not both."""
        underscored = dashed.replace("-", "_")
        if table.has(dashed) and table.has(underscored):
            table.refuse(dashed, f"`{dashed}` and `{underscored}` are the same key", "remove one of the two")
        return dashed if table.has(dashed) else underscored

    def _read_tvm_ffi(self, table: Fields) -> TvmFfiFramework:
        return TvmFfiFramework(
            src=table.parsed_list("src", parse_compiled_path),
            include=table.parsed_list("include", parse_compiled_path),
            pyext=_distinct(table.parsed_list("pyext", parse_python_extension)) or _DEFAULT_PYEXT,
            cxx_flags=table.parsed_list("cxx-flags", parse_flag),
        )

    def _read_component(self, name: str, table: Fields) -> Component | None:
        backend = table.parsed("backend", parse_compiled_backend)
        component = Component(
            name=name,
            backend=backend or Backend.CPU,
            depends=_distinct(table.parsed_list("depends", parse_dependency)),
            src=table.parsed_list("src", parse_compiled_path),
            include=table.parsed_list("include", parse_compiled_path),
            cxx_flags=table.parsed_list("cxx-flags", parse_flag),
            cuda_capabilities=self._read_capabilities(table, "cuda-capabilities"),
            cuda_flags=table.parsed_list("cuda-flags", parse_cuda_flag),
            cuda_minver=table.parsed("cuda-minver", self._parse_version),
            rocm_archs=_distinct(table.parsed_list("rocm-archs", parse_rocm_arch)),
            hip_flags=table.parsed_list("hip-flags", parse_flag),
            sycl_flags=table.parsed_list("sycl-flags", parse_flag),
            instantiate=self._matrices.read(table),
        )
        is_named = _check_name(table, name, parse_component_name)
        return component if is_named and backend is not None else None

    def _read_face(self, name: str, table: Fields) -> Face | None:
        hub = table.table_at("hub", schema.FACE_HUB)
        face = Face(name, None if hub is None else hub.parsed("repo-id", parse_repo_id))
        return face if _check_name(table, name, parse_kernel_name) else None


def _distinct(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _choose_component(values: dict[str, Any]) -> schema.Table:
    """What a component may say depends on its backend."""
    backend = values.get("backend")
    known = {str(backend): table for backend, table in schema.COMPONENTS.items()}
    return known.get(backend, schema.ANY_COMPONENT) if isinstance(backend, str) else schema.ANY_COMPONENT


def _choose_face(_values: dict[str, Any]) -> schema.Table:
    return schema.FACE


def _check_name(table: Fields, name: str, parse: Callable[[str], str]) -> bool:
    """Check the `<name>` of `[kernel.<name>]` or `[face.<name>]`."""
    try:
        parse(name)
    except BadValueError as error:
        table.refuse_table(f"the name of `[{render_key(table.path)}]` {error}", error.hint)
        return False
    return True
