"""Small wheels of the shape of torch's: headers in the middle, large libraries around them, RECORD at the end."""

from __future__ import annotations

import base64
import hashlib
import random
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from kernel_builder.sdk.stubs import render_elf_stub

LARGE = 3 << 20  # of the library that nobody should fetch
_INCOMPRESSIBLE = 100_000  # members as large are noise, which would only cost time
_TIME = (2026, 1, 1, 0, 0, 0)
VERSION_HEADER = "torch/include/torch/headeronly/version.h"


@dataclass(frozen=True, slots=True)
class WheelRecipe:
    """A torch wheel. extra: members beside the usual ones. lies: see `make_wheel`.

    padding: bytes of each member that nobody wants.
    """

    version: str = "2.11.0"
    local: str = "+cu130"
    cuda: str | None = "13.0"
    hip: str | None = None
    tags: str = "cp310-cp310-manylinux_2_28_x86_64"
    cxx11_flag: str = ""
    extra: Mapping[str, bytes] = field(default_factory=dict)
    lies: Mapping[str, str] = field(default_factory=dict)
    padding: int = LARGE // 2
    libraries: tuple[str, ...] = ("libc10.so", "libc10_cuda.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so")

    @property
    def filename(self) -> str:
        return f"torch-{self.version}-{self.tags}.whl"


def make_wheel(recipe: WheelRecipe, directory: Path) -> Path:
    """Write the wheel; a lie is in RECORD (`unlisted`, `wrong digest`) or in the archive (`symlink`, `bzip2`)."""
    major, minor = recipe.version.split(".")[:2]
    full = f"{recipe.version}{recipe.local}"
    members: dict[str, bytes] = {
        "torch/__init__.py": noise(recipe.padding // 3, "python"),
        "torch/version.py": f"__version__ = '{full}'\ncuda = {recipe.cuda!r}\nhip = {recipe.hip!r}\n".encode(),
        "torch/nn.py": noise(recipe.padding, "nn"),
        VERSION_HEADER: f"#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n".encode(),
        "torch/include/ATen/ATen.h": b"#pragma once\n#include <c10/core/Device.h>\n",
        "torch/include/c10/core/Device.h": b"#pragma once\n",
        **{f"torch/include/ATen/ops/op_{number}.h": noise(2000, f"op {number}") for number in range(40)},
        **{f"torch/lib/{name}": library_bytes(name) for name in recipe.libraries},
        "torch/share/cmake/Torch/TorchConfig.cmake": f'set(TORCH_CXX_FLAGS "{recipe.cxx11_flag}")\n'.encode(),
        "torch/utils/hipify/hipify_python.py": b"# translates\n",
        "torch/optim.py": noise(recipe.padding, "optim"),
        **recipe.extra,
    }
    info = f"torch-{recipe.version}.dist-info"
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.4\nName: torch\nVersion: {recipe.version}\n".encode()
    return write_wheel(directory / recipe.filename, members, f"{info}/RECORD", recipe.lies)


def write_wheel(path: Path, members: Mapping[str, bytes], record: str, lies: Mapping[str, str]) -> Path:
    rows = [
        f"{name},sha256={encode_digest(b'' if lies.get(name) == 'wrong digest' else data)},{len(data)}"
        for name, data in members.items()
        if lies.get(name) != "unlisted"
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, record: "\n".join([*rows, f"{record},,", ""]).encode()}.items():
            entry = zipfile.ZipInfo(name, _TIME)
            packed = zipfile.ZIP_DEFLATED if len(data) < _INCOMPRESSIBLE else zipfile.ZIP_STORED
            entry.compress_type = zipfile.ZIP_BZIP2 if lies.get(name) == "bzip2" else packed
            entry.external_attr = (0o120777 if lies.get(name) == "symlink" else 0o100644) << 16
            archive.writestr(entry, data)
    return path


def make_cuda_toolkit(directory: Path, version: str, libraries: Mapping[str, str]) -> Path:
    """The package that says which library belongs to a toolkit. libraries: extra -> requirement."""
    requires = "".join(
        f"Provides-Extra: {extra}\nRequires-Dist: {requirement}; sys_platform == 'linux' and extra == '{extra}'\n"
        for extra, requirement in libraries.items()
    )
    info = f"cuda_toolkit-{version}.dist-info"
    text = f"Metadata-Version: 2.4\nName: cuda-toolkit\nVersion: {version}\n{requires}\n"
    members = {f"{info}/METADATA": text.encode()}
    return write_wheel(directory / f"cuda_toolkit-{version}-py2.py3-none-any.whl", members, f"{info}/RECORD", {})


def make_cuda_library(directory: Path, package: str, version: str, library: str, soname: str) -> Path:
    name = f"{package.replace('-', '_')}-{version}"
    members = {
        f"nvidia/cu13/include/{library}.h": f"// {library} {version}\n".encode(),
        f"nvidia/cu13/lib/{soname}": noise(LARGE, soname),
    }
    path = directory / f"{name}-py3-none-manylinux_2_27_x86_64.whl"
    return write_wheel(path, members, f"{name}.dist-info/RECORD", {})


def library_bytes(name: str) -> bytes:
    """A small library is real; one of the large ones is noise that would be noticed if it came."""
    if name.startswith(("libtorch_c", "libtorch_python")):
        return noise(LARGE, name)
    return render_elf_stub(name, "x86_64")


@cache
def noise(size: int, seed: str) -> bytes:
    """Bytes that do not compress, the same ones every time."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data


def encode_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
