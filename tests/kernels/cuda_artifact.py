"""The attention kernels for NVIDIA GPUs, built once as users build them, and what the compiler reported meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.artifact import ROOT
from tests.sdk.cuda_toolkit import obtain_cuda_toolkit

BASELINE = 'cuda-capabilities = ["8.0", "9.0+PTX"]'

_ENTRY = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)' for '(?P<arch>\w+)'"
    r".*?(?P<spilled>\d+) bytes spill stores.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
_KERNEL = re.compile(r"enter(?:_layer)?IN(?:S_)?(\d+)(\w+)")
_FORMAT = re.compile(r"\d(B?Float(?:16|32))")


@dataclass(frozen=True, slots=True, order=True)
class KernelName:
    """What a symbol stands for. name: `Forward 64 2 64 2 0` is `Forward<..., 64, 2, 64, 2, false>`."""

    name: str
    number_format: str

    @classmethod
    def parse_symbol(cls, symbol: str) -> KernelName:
        """Read the mangled name of what is launched: `enter<Kernel, Call>`."""
        found = _KERNEL.search(symbol)
        assert found is not None, symbol
        name, arguments = found[2][: int(found[1])], found[2][int(found[1]) :].partition("Call")[0]
        number_format = _FORMAT.search(arguments)
        numbers = re.findall(r"L[ib](\d+)E", arguments)
        return cls(" ".join([name, *numbers]), "" if number_format is None else number_format[1])


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the assembler says that a kernel takes. arch: `sm_80`."""

    kernel: KernelName
    arch: str
    registers: int
    spilled_bytes: int


@dataclass(frozen=True, slots=True)
class CudaArtifact:
    """The library, with kernels for two archs, and all that was said while it was compiled."""

    library: Path
    log: str

    def list_kernels(self) -> Iterator[Compiled]:
        """Every kernel of every unit; one that two units have comes twice."""
        for entry in _ENTRY.finditer(self.log):
            kernel = KernelName.parse_symbol(entry["symbol"])
            yield Compiled(kernel, entry["arch"], int(entry["registers"]), int(entry["spilled"]))


def build_cuda_artifact(folder: Path) -> None:
    """Build and audit the project in a folder for `load_cuda_artifact`, for one arch of each family of kernels.

    Without its face, which is the same binding under another name, around the same kernels.
    """
    toolkit = obtain_cuda_toolkit()
    project = folder / "project"
    shutil.copytree(ROOT / "flash_attn_kernel", project / "flash_attn_kernel")
    text = (ROOT / "build.toml").read_text(encoding="utf-8")
    assert BASELINE in text, "the baseline's archs are others than they were"
    (project / "build.toml").write_text(text.replace(BASELINE, 'cuda-capabilities = ["8.0"]'), encoding="utf-8")
    command = [sys.executable, "-m", "kernel_builder", "build", str(project), "--backend", "cuda", "--json"]
    command += ["--kernel", "flash-attn-kernel", "--toolkit", f"cuda={toolkit.key.toolkit}"]
    command += ["--arch", "8.0", "--arch", "9.0a"]
    reporting = os.environ | {"NVCC_APPEND_FLAGS": "-Xptxas=-v"}
    built = subprocess.run(command, check=False, capture_output=True, text=True, env=reporting)
    assert built.returncode == 0, built.stdout + built.stderr
    (folder / "built.json").write_text(built.stdout, encoding="utf-8")


def load_cuda_artifact(folder: Path) -> CudaArtifact:
    """Return what `build_cuda_artifact` made there."""
    built = json.loads((folder / "built.json").read_text(encoding="utf-8"))
    (artifact,) = built["artifacts"]
    (library,) = Path(artifact["path"]).glob("*.so")
    return CudaArtifact(library, Path(built["backends"][0]["log"]).read_text(encoding="utf-8"))


def disassemble(library: Path, folder: Path) -> dict[tuple[KernelName, str], str]:
    """Return the instructions of each kernel in a library by its name and arch."""
    subprocess.run([_find_tool("cuobjdump"), "-xelf", "all", str(library)], check=True, cwd=folder, capture_output=True)
    found = {}
    for cubin in sorted(folder.glob("*.cubin")):
        command = [_find_tool("nvdisasm"), "--print-code", "--no-dataflow", str(cubin)]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        sections = re.split(r"^\s*\.section\s+\.text\.(\w+)", listing, flags=re.MULTILINE)
        for symbol, text in zip(sections[1::2], sections[2::2], strict=True):
            found[KernelName.parse_symbol(symbol), cubin.suffixes[-2][1:]] = text
    return found


def has_disassembler() -> bool:
    """Whether NVIDIA's tools to look into a library are here; their wheels are for x86-64."""
    return all(Path(_find_tool(name)).is_file() for name in ("cuobjdump", "nvdisasm"))


def _find_tool(name: str) -> str:
    """On the path, or from the wheel `nvidia-cuda-<name>`."""
    wheels = Path(sysconfig.get_paths()["purelib"]).glob(f"nvidia/*/bin/{name}")
    return shutil.which(name) or next(map(str, wheels), name)
