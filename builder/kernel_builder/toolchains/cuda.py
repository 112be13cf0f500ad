"""CUDA toolkits: the one on this machine, or the wheels of a release, made complete."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from kernel_builder import process
from kernel_builder.backend import Backend
from kernel_builder.errors import BuilderError, FetchError, Problem
from kernel_builder.plan import ToolchainKey
from kernel_builder.progress import Listener
from kernel_builder.toolchains.catalog import Release
from kernel_builder.toolchains.fetch import fetch_release
from kernel_builder.toolchains.model import Toolkit
from kernel_builder.toolchains.tool import Tool, probe_version
from kernel_builder.version import MinorVersion

HOMES = ("/usr/local/cuda",)
HOME_VARIABLES = ("CUDA_HOME", "CUDA_PATH")
_VERSION = re.compile(r"\bV(\d+\.\d+\.\d+)")
_RELEASE = re.compile(r"release (\d+\.\d+)")
_TOP = re.compile(r"^#\$ TOP=(.+)$", re.MULTILINE)
_SHARED = re.compile(r"(lib\w+\.so)\.\d+(\.\d+)*")
_DRY_RUN_SECONDS = 30.0


def probe_cuda() -> Toolkit | None:
    """The toolkit whose `nvcc` is found first: that of `CUDA_HOME`, on the path, or in the usual place."""
    for nvcc in _list_compilers():
        toolkit = describe_toolkit(Path(nvcc))
        if toolkit is not None:
            return toolkit
    return None


def obtain_cuda(release: Release, listener: Listener) -> Toolkit:
    """The toolkit of a release's wheels, fetched when needed. Raises `FetchError`."""
    root = _find_root(fetch_release(release, listener))
    if root is not None:
        _complete(root)
        toolkit = describe_toolkit(root / "bin" / "nvcc")
        if toolkit is not None:
            return toolkit
    raise FetchError(Problem(f"the wheels of CUDA {release.version} hold no `nvcc` that runs on this machine"))


def describe_toolkit(nvcc: Path) -> Toolkit | None:
    """The toolkit that an `nvcc` belongs to; None when it does not run or does not say."""
    version = probe_version([nvcc, "--version"], _VERSION) or probe_version([nvcc, "--version"], _RELEASE)
    if version is None:
        return None
    root = _probe_root(nvcc) or nvcc.resolve().parent.parent
    compiler = root / "bin" / nvcc.name
    compiler = compiler if compiler.is_file() else nvcc
    return Toolkit(
        key=ToolchainKey(Backend.CUDA, MinorVersion.parse_release(version)),
        tool=Tool("nvcc", (str(compiler),), version),
        root=root,
        settings={"CMAKE_CUDA_COMPILER": str(compiler), "CUDAToolkit_ROOT": str(root)},
        environment={"CUDA_HOME": str(root), "CUDA_PATH": str(root)},
    )


def _list_compilers() -> Iterator[str]:
    homes = [os.environ[name] for name in HOME_VARIABLES if os.environ.get(name)]
    places = [*(str(Path(home) / "bin") for home in homes), os.environ.get("PATH", ""),
              *(str(Path(home) / "bin") for home in HOMES)]  # fmt: skip
    for place in places:
        nvcc = shutil.which("nvcc", path=place)
        if nvcc is not None:
            yield nvcc


def _probe_root(nvcc: Path) -> Path | None:
    """Where nvcc itself says that its toolkit lies: what is on the path is often a wrapper that lies elsewhere."""
    try:
        completed = process.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull],
                                timeout=_DRY_RUN_SECONDS)  # fmt: skip
    except (BuilderError, TimeoutError):
        return None
    match = _TOP.search(completed.output)
    root = None if match is None else Path(match[1].strip()).resolve()
    return root if root is not None and (root / "bin").is_dir() else None


def _find_root(directory: Path) -> Path | None:
    """The toolkit in a directory of wheels, which put it below a name with the major version."""
    return next((path.parent.parent for path in sorted(directory.glob("nvidia/cu*/bin/nvcc"))), None)


def _complete(root: Path) -> None:
    """Add what wheels cannot carry: the links that a linker looks for, and the name of the library directory."""
    library = root / "lib"
    for path in sorted(library.glob("lib*.so.*")):
        match = _SHARED.fullmatch(path.name)
        link = library / (match[1] if match else path.name)
        if match is not None and not link.exists():
            link.symlink_to(path.name)
    if not (root / "lib64").exists():
        (root / "lib64").symlink_to("lib")
