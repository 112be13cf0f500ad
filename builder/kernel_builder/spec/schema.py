"""The tables of a `build.toml` and their keys, as data: what the reader accepts and what the reference documents.

`since` is the first edition that has a key. A required key may be absent in the editions before `required_since`.
`is_extension` marks what only this builder understands.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel_builder.backend import FACTS, Backend

OLDEST_EDITION = 3
NEWEST_EDITION = 5


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its type in words, and a value that shows how it is written."""

    name: str
    kind: str
    example: str
    required_since: int | None = None
    since: int = OLDEST_EDITION
    is_extension: bool = False

    def is_required(self, edition: int) -> bool:
        """Whether a file of this edition must have the key."""
        return self.required_since is not None and edition >= self.required_since


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name in error messages and in the reference, and its keys in the order of the reference."""

    title: str
    keys: tuple[Key, ...]

    def names(self, edition: int) -> tuple[str, ...]:
        """The keys that a file of this edition may have."""
        return tuple(key.name for key in self.keys if key.since <= edition)

    def key(self, name: str) -> Key:
        """The row of one key. Raises `KeyError` for a key that the table does not have."""
        for key in self.keys:
            if key.name == name:
                return key
        raise KeyError(name)


_STRING = "string"
_STRINGS = "array of strings"
_PATHS = "array of paths"
_VERSION = "version"
_TABLE = "table"

_PYTHON_DEPENDS = Key("python-depends", _STRINGS, '["einops"]')
_KERNEL_DEPENDS = Key(
    "kernel-depends", "array of tables", '[{ repo-id = "kernels-community/relu", version = 1 }]', since=5
)
_MINVER = Key("minver", _VERSION, '"12.8"')
_MAXVER = Key("maxver", _VERSION, '"13.0"')
_SRC = Key("src", _PATHS, '["torch-ext/torch_binding.cpp"]')
_INCLUDE = Key("include", _PATHS, '["."]')
_PYEXT = Key("pyext", _STRINGS, '["py", "pyi", "json"]')
_CXX_FLAGS = Key("cxx-flags", _STRINGS, '["-fopenmp"]')
_REPO_ID = Key("repo-id", "repo id", '"owner/name"')
_CUDA_CAPABILITIES = Key("cuda-capabilities", _STRINGS, '["8.0", "9.0a"]')
_ROCM_ARCHS = Key("rocm-archs", _STRINGS, '["gfx90a", "gfx942"]')

ROOT = Table(
    "the file",
    (
        Key("general", _TABLE, "", required_since=3),
        Key("torch", _TABLE, ""),
        Key("torch-noarch", _TABLE, ""),
        Key("tvm-ffi", _TABLE, ""),
        Key("kernel", "table of tables", ""),
        Key("face", "table of tables", "", since=5, is_extension=True),
    ),
)
GENERAL = Table(
    "`[general]`",
    (
        Key("name", "kernel name", '"flash-attn"', required_since=3),
        Key("version", "integer", "1", required_since=4),
        Key("edition", "integer", "5", required_since=5),
        Key("license", _STRING, '"Apache-2.0"', required_since=4),
        Key("backends", "array of backends", '["cpu", "cuda"]', required_since=3),
        Key("upstream", "git URL", '"https://github.com/owner/name"'),
        Key("source", "git URL", '"https://github.com/owner/name"'),
        _PYTHON_DEPENDS,
        _KERNEL_DEPENDS,
        Key("capabilities", _STRINGS, '["backward", "dropout"]', since=5, is_extension=True),
        Key("backend-capabilities", _TABLE, '{ cuda = ["bfloat16"] }', since=5, is_extension=True),
        Key("hub", _TABLE, '{ repo-id = "owner/name" }'),
        Key("cuda", _TABLE, ""),
        Key("neuron", _TABLE, ""),
        Key("tpu", _TABLE, "", since=5),
        Key("xpu", _TABLE, ""),
    ),
)
BACKEND_CAPABILITIES = Table(
    "`[general.backend-capabilities]`",
    tuple(Key(backend, _STRINGS, '["bfloat16"]', since=5, is_extension=True) for backend in Backend),
)
HUB = Table("`[general.hub]`", (_REPO_ID, Key("branch", "git branch", '"main"')))
KERNEL_DEPENDENCY = Table(
    "`kernel-depends`",
    (
        Key("repo-id", "repo id", '"owner/name"', required_since=3),
        Key("version", "integer", "1"),
        Key("revision", _STRING, '"main"'),
    ),
)
BACKEND_GENERAL: dict[Backend, Table] = {
    Backend.CUDA: Table("`[general.cuda]`", (_MINVER, _MAXVER, _PYTHON_DEPENDS, _KERNEL_DEPENDS)),
    Backend.NEURON: Table("`[general.neuron]`", (_PYTHON_DEPENDS, _KERNEL_DEPENDS)),
    Backend.TPU: Table("`[general.tpu]`", (_PYTHON_DEPENDS,)),
    Backend.XPU: Table("`[general.xpu]`", (_PYTHON_DEPENDS, _KERNEL_DEPENDS)),
}
TORCH = Table(
    "`[torch]`",
    (
        _SRC,
        _INCLUDE,
        _PYEXT,
        Key("minver", _VERSION, '"2.10"'),
        Key("maxver", _VERSION, '"2.13"'),
        Key("stable-abi", "version, or table of versions", '"2.10"'),
        _CXX_FLAGS,
    ),
)
STABLE_ABI = Table("`[torch.stable-abi]`", tuple(Key(backend, _VERSION, '"2.10"', since=3) for backend in Backend))
TORCH_NOARCH = Table(
    "`[torch-noarch]`",
    (
        _PYEXT,
        Key("cuda_capabilities", _STRINGS, '["8.0", "9.0a"]'),
        Key("rocm_archs", _STRINGS, '["gfx90a", "gfx942"]'),
        Key("cuda-capabilities", _STRINGS, '["8.0", "9.0a"]', is_extension=True),
        Key("rocm-archs", _STRINGS, '["gfx90a", "gfx942"]', is_extension=True),
    ),
)
TVM_FFI = Table(
    "`[tvm-ffi]`",
    (Key("src", _PATHS, '["tvm-ffi-ext/tvm_ffi_binding.cpp"]', required_since=3), _INCLUDE, _PYEXT, _CXX_FLAGS),
)
_COMPONENT = (
    Key("backend", "compiled backend", '"cuda"', required_since=3),
    Key("depends", "array of dependencies", '["torch"]', required_since=3),
    Key("src", _PATHS, '["relu_cuda/relu.cu"]', required_since=3),
    _INCLUDE,
    _CXX_FLAGS,
    Key("instantiate", "array of tables", "[{ ... }]", since=5, is_extension=True),
)
_COMPONENT_EXTRA: dict[Backend, tuple[Key, ...]] = {
    Backend.CUDA: (
        _CUDA_CAPABILITIES,
        Key("cuda-flags", _STRINGS, '["--use_fast_math"]'),
        Key("cuda-minver", _VERSION, '"12.8"'),
    ),
    Backend.ROCM: (_ROCM_ARCHS, Key("hip-flags", _STRINGS, '["-ffast-math"]')),
    Backend.XPU: (Key("sycl-flags", _STRINGS, '["-fsycl"]'),),
}
COMPILED_BACKENDS = tuple(backend for backend in Backend if FACTS[backend].is_compiled)
COMPONENTS: dict[Backend, Table] = {
    backend: Table(f'`[kernel.<name>]` with `backend = "{backend}"`', (*_COMPONENT, *_COMPONENT_EXTRA.get(backend, ())))
    for backend in COMPILED_BACKENDS
}
# For a component whose backend cannot be read: its other keys are looked at all the same.
ANY_COMPONENT = Table(
    "`[kernel.<name>]`", tuple({key.name: key for table in COMPONENTS.values() for key in table.keys}.values())
)
INSTANTIATE = Table(
    "`[[kernel.<name>.instantiate]]`",
    (
        Key("template", "path", '"cuda/forward.cu.j2"', required_since=5, since=5, is_extension=True),
        Key("axes", "table of arrays", '{ dtype = ["bfloat16"] }', required_since=5, since=5, is_extension=True),
        Key("exclude", "array of tables", '[{ dtype = "bfloat16" }]', since=5, is_extension=True),
    ),
)
FACE = Table("`[face.<name>]`", (Key("hub", _TABLE, '{ repo-id = "owner/name" }', since=5, is_extension=True),))
FACE_HUB = Table("`[face.<name>.hub]`", (Key("repo-id", "repo id", '"owner/name"', since=5, is_extension=True),))

TABLES: tuple[Table, ...] = (
    ROOT,
    GENERAL,
    BACKEND_CAPABILITIES,
    HUB,
    *BACKEND_GENERAL.values(),
    KERNEL_DEPENDENCY,
    TORCH,
    STABLE_ABI,
    TORCH_NOARCH,
    TVM_FFI,
    *COMPONENTS.values(),
    INSTANTIATE,
    FACE,
    FACE_HUB,
)
