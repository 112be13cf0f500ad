"""The package as a Mac has it, with its Metal binding, on CPU tensors: shaders run under the emulator."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import torch

from tests.kernels.device_arithmetic import FUSED

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "flash_attn_kernel"
SOURCES = ROOT / "tests" / "cpp"
COMPILER = shutil.which("g++") or "g++"
ATTRIBUTE = re.compile(r"\[\[[^\[\]]*\]\]")
HOST = ("metal/launch.cpp", "layers/metal/launch.cpp")
BINDING = ("torch_binding", "attention_problem", "device_tensors", "layer_ops", "layer_ops_metal", "metal_ops")
NAME = "metal_emulated"
PACKAGE = "metal_emulated_package"
OPS = f"import torch\n\nfrom . import {NAME}\n\nops = torch.ops.{NAME}\n\n\n"
OPS += f'def add_op_namespace_prefix(op_name: str) -> str:\n    return f"{NAME}::{{op_name}}"\n'


def blank_attributes(target: Path) -> Path:
    """Copy the sources that shaders include, without what says where an argument comes from: C++ has no such thing."""
    for source in PROJECT.glob("**/*"):
        if source.suffix in {".h", ".metal"}:
            copy = target / source.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(ATTRIBUTE.sub("", source.read_text(encoding="utf-8")), encoding="utf-8")
    return target


def run_compiler(*arguments: str | Path) -> None:
    """Compile, or fail with what the compiler says."""
    compiled = subprocess.run([COMPILER, *arguments], check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


def compile_emulator(folder: Path) -> None:
    """Compile the shaders, which are instrumented, and the emulator, which is not."""
    blank_attributes(folder / "blanked")
    strict = ("-std=c++17", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", f"-I{SOURCES / 'msl'}")
    shaders, emulator = emulator_objects(folder)
    # The instrumentation of -fsanitize=thread reports each access to the emulator; its own runtime is not linked.
    flags = ("-O1", *FUSED, "-fsanitize=thread", "-Wno-unused-parameter", f"-I{folder / 'blanked'}")
    run_compiler(*strict, *flags, "-c", SOURCES / "msl" / "shaders.cpp", "-o", shaders)
    run_compiler(*strict, "-O2", "-c", SOURCES / "msl" / "emulator.cpp", "-o", emulator)


def emulator_objects(folder: Path) -> list[Path]:
    """Name what `compile_emulator` makes."""
    return [folder / "shaders.o", folder / "emulator.o"]


def compile_binding(folder: Path, objects: list[Path]) -> None:
    """Compile the binding for CPU tensors, and put the package around it."""
    package = folder / PACKAGE
    shutil.copytree(PROJECT / "torch-ext" / "flash_attn_kernel", package)
    (package / "_ops.py").write_text(OPS, encoding="utf-8")
    torch_home = Path(torch.__file__).parent
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-w", f"-DTORCH_EXTENSION_NAME={NAME}"]
    flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{ROOT / 'templates' / 'include'}", f"-I{SOURCES}"]
    flags += [f"-I{sysconfig.get_paths()['include']}", f"-I{torch_home / 'include'}", f"-L{torch_home / 'lib'}"]
    sources = [PROJECT / "torch-ext" / f"{name}.cpp" for name in BINDING]
    sources += [PROJECT / path for path in (*HOST, "gpu/plan.cpp")] + [SOURCES / "msl" / "device.cpp"]
    libraries = ["-Wl,--no-as-needed", "-ltorch_cpu", "-ltorch", "-lc10"]
    run_compiler(*flags, *sources, *objects, *libraries, "-o", package / f"{NAME}.so")


def load_emulated(folder: Path) -> ModuleType:
    """Import what `compile_binding` made."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(PACKAGE)
    finally:
        sys.path.remove(str(folder))
