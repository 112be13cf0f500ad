"""Generated projects through the real CMake, compiler and torch, without the rest of the builder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import torch
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from kernel_builder.backend import Backend
from kernel_builder.host import probe_host
from kernel_builder.plan import plan_build
from kernel_builder.render import render_project
from kernel_builder.spec.model import BuildSpec, Component, Dependency, Face, Framework, General, TorchFramework
from kernel_builder.spec.model import TorchNoarchFramework as Noarch
from kernel_builder.toolchains.system import probe_pip_tool
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import make_environment

TORCH = MinorVersion.parse_release(torch.__version__)
SDK = Path(torch.__file__).parent
P = PurePosixPath

CLASSIC_BINDING = """
#include "registration.h"
#include <torch/library.h>
double power(double base, double exponent);
TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, ops) { ops.def("power(float base, float exponent) -> float"); }
TORCH_LIBRARY_FRAGMENT_EXPAND(TORCH_EXTENSION_NAME, ops) { ops.def("two() -> float", [] { return 2.0; }); }
TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CompositeExplicitAutograd, ops) { ops.impl("power", &power); }
REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
"""
STABLE_BINDING = """
#include <torch/csrc/stable/library.h>
#include "registration.h"
#if !defined(CPU_KERNEL) || Py_LIMITED_API != 0x03090000 || TORCH_TARGET_VERSION != (((0ULL + 2) << 56) | (10ULL << 48))
#error "a macro that kernel sources test is not there"
#endif
double power(double base, double exponent);
STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, ops) { ops.def("power(float base, float exponent) -> float"); }
STABLE_TORCH_LIBRARY_FRAGMENT_EXPAND(TORCH_EXTENSION_NAME, ops) { ops.def("two(float x) -> float"); }
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CompositeExplicitAutograd, ops) {
  ops.impl("power", TORCH_BOX(&power));
}
REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
"""
# Functions whose newest version no old glibc has, and a place in the file that must not be in the library.
POWER = """
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <thread>
double power(double base, double exponent) {
  auto result = std::make_shared<double>(0.0);
  std::exception_ptr error;
  std::thread worker([=, &error] {
    error = std::make_exception_ptr(std::runtime_error("not thrown"));
    *result = std::exp(std::log(base) * exponent) + std::hypot(0.0, std::pow(0.0, 2.0));
  });
  worker.join();
  std::mutex mutex;
  std::condition_variable condition;
  std::unique_lock lock(mutex);
  condition.wait_for(lock, std::chrono::milliseconds(1));
  bool ready = true;
  condition.wait(lock, [&] { return ready; });
  char digits[32];
  *std::to_chars(digits, digits + 31, *result).ptr = 0;
  std::from_chars(digits, digits + 32, *result);
  struct stat status;
  if (stat("/", &status) != 0) throw std::runtime_error(std::string("no root at ") + __FILE__);
  std::stringstream text;
  text << "taken";
  std::exception_ptr copy = error;
  error = nullptr;
  if (!copy || std::move(text).str() != "taken") throw std::runtime_error("an exception or a text was lost");
  int threads = 0;
#pragma omp parallel reduction(+ : threads)
  threads += 1;
  return threads > 0 ? *result : 0.0;
}
"""
INIT = "from ._ops import add_op_namespace_prefix, ops\n\nWHO = __name__\n"
LOAD = """
import importlib.util, sys, torch
for number, path in enumerate(sys.argv[1:]):
    spec = importlib.util.spec_from_file_location(f"kernel_{number}", path + "/__init__.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert abs(module.ops.power(2.0, 3.0) - 8.0) < 1e-9
    assert module.add_op_namespace_prefix("x") == module.ops.name + "::x"
"""


def make_spec(root: Path, framework: Framework, *components: Component, faces: tuple[str, ...] = ()) -> BuildSpec:
    return BuildSpec(
        root=root,
        edition=5,
        general=General("power-x", 1, "Apache-2.0", (Backend.CPU,)),
        framework=framework,
        components=components,
        faces=tuple(Face(name) for name in faces),
    )


def write_project(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def run_cmake(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    cmake = probe_pip_tool("cmake")
    assert cmake is not None
    completed = subprocess.run(
        [*cmake.argv, *map(str, arguments)], check=False, capture_output=True, text=True, encoding="utf-8"
    )
    assert not check or completed.returncode == 0, completed.stdout + completed.stderr
    return completed


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Render a spec and configure it in `<tmp_path>/made` and `<tmp_path>/build`."""

    def run(
        spec: BuildSpec, *, planned: MinorVersion = TORCH, check: bool = True, **defines: object
    ) -> subprocess.CompletedProcess[str]:
        plan = plan_build(spec, make_environment(host=probe_host(), torch=str(planned)), "0" * 64)
        render_project(plan, plan.toolchains[0]).write_to(tmp_path / "made")
        ninja = probe_pip_tool("ninja")
        assert ninja is not None
        settings = {
            "KERNEL_PROJECT_DIR": spec.root,
            "KERNEL_TORCH_SDK": SDK,
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": ninja.argv[0],
            "Python_EXECUTABLE": sys.executable,
            **defines,
        }
        return run_cmake(
            "-S", tmp_path / "made", "-B", tmp_path / "build", "-G", "Ninja",
            *(f"-D{name}={value}" for name, value in settings.items()), check=check,
        )  # fmt: skip

    return run


def build_and_install(tmp_path: Path) -> dict[str, Path]:
    """Kernel name -> the directory of its one variant."""
    run_cmake("--build", tmp_path / "build", "-j", "2")
    run_cmake("--install", tmp_path / "build", "--prefix", tmp_path / "out", "--strip")
    return {path.parent.name: path for path in sorted((tmp_path / "out").glob("*/*"))}


def list_compiler_calls(build: Path) -> list[list[str]]:
    """The arguments that compilers are called with, as ninja's shell gives them."""
    ninja = probe_pip_tool("ninja")
    assert ninja is not None
    listed = subprocess.run(
        [*ninja.argv, "-C", str(build), "-t", "commands"], check=True, capture_output=True, encoding="utf-8"
    )
    calls = []
    for command in listed.stdout.splitlines():
        if " -c " in command:
            script = f"set -- {command}\nprintf '%s\\0' \"$@\""
            spoken = subprocess.run(["sh", "-c", script], check=True, capture_output=True, encoding="utf-8")
            calls.append(spoken.stdout.split("\0")[:-1])
    return calls


def newest_versions(library: Path) -> dict[str, tuple[int, ...]]:
    """For each family of versioned symbols, such as `GLIBC`, the newest one that a library needs."""
    newest: dict[str, tuple[int, ...]] = {}
    with library.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".gnu.version_r")
        assert isinstance(section, GNUVerNeedSection)
        for _, entries in section.iter_versions():
            for entry in entries:
                family, _, version = entry.name.partition("_")
                numbers = tuple(int(number) for number in version.split("."))
                newest[family] = max(numbers, newest.get(family, ()))
    return newest


def unversioned_names(library: Path) -> list[str]:
    """What a library takes from wherever the loader finds it, such as from torch's libraries."""
    with library.open("rb") as stream:
        elf = ELFFile(stream)
        versions, symbols = elf.get_section_by_name(".gnu.version"), elf.get_section_by_name(".dynsym")
        assert isinstance(versions, GNUVerSymSection)
        assert isinstance(symbols, SymbolTableSection)
        return [
            symbol.name
            for number, symbol in enumerate(symbols.iter_symbols())
            if symbol["st_shndx"] == "SHN_UNDEF"
            and versions.get_symbol(number)["ndx"] in {"VER_NDX_LOCAL", "VER_NDX_GLOBAL"}
        ]


def check_library(artifact: Path, *absent: Path) -> None:
    """Loads with the glibc and libstdc++ of manylinux_2_28, has no OpenMP but torch's, no trace of its place."""
    (library,) = artifact.glob("*.so")
    assert library.name == f"{library.name.partition('.')[0]}.abi3.so"
    newest = newest_versions(library)
    assert newest["GLIBC"] <= (2, 28)
    assert newest["GLIBCXX"] <= (3, 4, 24)
    assert newest["CXXABI"] <= (1, 3, 11)
    assert not [
        name for name in unversioned_names(library) if name.startswith(("_ZNSt", "_ZNKSt", "_ZNOSt", "_ZNKRSt"))
    ]
    content = library.read_bytes()
    assert b"libgomp" not in content
    assert not [path for path in absent if str(path).encode() in content]


def test_a_classic_project_runs_in_torch(tmp_path: Path, configure: Callable[..., object]) -> None:
    project = tmp_path / "a project (1)"
    write_project(
        project,
        {
            "torch-ext/torch_binding.cpp": CLASSIC_BINDING,
            "power/power.cpp": POWER,
            "torch-ext/power_x/__init__.py": INIT,
        },
    )
    component = Component("power", Backend.CPU, (Dependency.TORCH,), (P("power/power.cpp"),), cxx_flags=("-O1",))
    # As in an environment that is a symbolic link: GCC names headers by the shorter one of two names for a directory.
    sdk = tmp_path / ("link" * 50) / "torch"
    sdk.parent.mkdir()
    sdk.symlink_to(SDK.resolve())
    spec = make_spec(project, TorchFramework(src=(P("torch-ext/torch_binding.cpp"),)), component)
    configure(spec, KERNEL_TORCH_SDK=sdk)
    artifact = build_and_install(tmp_path)["power-x"]
    assert artifact.name == f"torch{TORCH.compact}-cxx11-cpu-{probe_host()}"
    check_library(artifact, project, tmp_path, SDK, SDK.resolve())
    subprocess.run([sys.executable, "-c", LOAD, str(artifact)], check=True)


def test_faces_of_the_stable_abi_share_what_needs_no_torch(tmp_path: Path, configure: Callable[..., object]) -> None:
    project = tmp_path / "project"
    write_project(
        project,
        {
            "torch-ext/torch_binding.cpp": STABLE_BINDING,
            "torch-ext/power_x/__init__.py": INIT,
            "torch-ext/power_x/only.py": "",
            "torch-ext/power_x/notes.txt": "not shipped",
            "torch-ext/other/__init__.py": INIT + "FACE = True\n",
            "power/power.cpp": POWER,
        },
    )
    framework = TorchFramework(src=(P("torch-ext/torch_binding.cpp"),), stable_abi={Backend.CPU: MinorVersion(2, 10)})
    component = Component("power", Backend.CPU, (), (P("power/power.cpp"),), cxx_flags=("-fopenmp",))
    configure(make_spec(project, framework, component, faces=("other",)))
    artifacts = build_and_install(tmp_path)
    commands = json.loads((tmp_path / "build" / "compile_commands.json").read_text(encoding="utf-8"))
    assert sum(Path(entry["file"]).name == "power.cpp" for entry in commands) == 1
    assert sum(Path(entry["file"]).name == "torch_binding.cpp" for entry in commands) == 2
    for artifact in artifacts.values():
        assert artifact.name == f"torch-stable-abi210-cpu-{probe_host()}"
        check_library(artifact, project, tmp_path, SDK)
    files = {kernel: sorted(path.name for path in artifact.glob("*.py")) for kernel, artifact in artifacts.items()}
    assert files == {name: ["__init__.py", "_ops.py", "only.py"] for name in ("other", "power-x")}
    assert "FACE" in (artifacts["other"] / "__init__.py").read_text(encoding="utf-8")
    assert "FACE" not in (artifacts["power-x"] / "__init__.py").read_text(encoding="utf-8")
    subprocess.run([sys.executable, "-c", LOAD, *map(str, artifacts.values())], check=True)


def test_flags_reach_the_compiler_as_written(tmp_path: Path, configure: Callable[..., object]) -> None:
    flags = (
        '-DQUOTED="a b"', "-DLIST=a;b", "-DVARIABLE=${CMAKE_COMMAND}", "-DENVIRONMENT=$ENV{HOME}", "-DGENEX=$<CONFIG>",
        "-DBACKSLASH=\\", '-DESCAPED=\\;\\"\\$', "-DHASH=#x", "-DCLOSED=) message(x", "-DBRACKET=]]", "-DNEST=[[;",
        "-DSINGLE='x'", "-DUNICODE=é→😀", "-DSAME", "-DSAME", "-Xpreprocessor", "-DTWO", "-Xpreprocessor", "-DTHREE",
        "SHELL:-DSHELL", "-DCOMMA=$<1:a,b>,c", "-DTICK=`x`", "-DPERCENT=%n&|<>*?!~", "SOURCES", "$", "$$", "$<",
        "-DEND=\\",
    )  # fmt: skip
    names = ["plain.cpp", "ä $x #y (z).cpp", "@a@ & 'b' \"c\" %d,=.cpp", "${X}<>~.cpp"]
    project = tmp_path / "pr oj, (é)"
    write_project(project, {"torch-ext/power_x/__init__.py": "", **{f"src dir/{name}": "" for name in names}})
    component = Component(
        "abi", Backend.CPU, (), tuple(P("src dir", name) for name in names), (P("src dir"), P()), flags
    )
    configure(make_spec(project, TorchFramework(cxx_flags=("-Wall",)), component))
    compiled = {words[-1]: words for words in list_compiler_calls(tmp_path / "build")}
    for name in names:
        argv = compiled[f"{project}/src dir/{name}"]
        first = argv.index(flags[0])
        assert tuple(argv[first : first + len(flags)]) == flags
        assert {f"-I{project}/src dir", f"-I{project}", f"-I{project}/csrc"} <= set(argv)
        assert next(index for index, word in enumerate(argv) if word.startswith("-std=")) < first


def test_python_only_projects_are_installed_without_a_compiler(
    tmp_path: Path, configure: Callable[..., object]
) -> None:
    project = tmp_path / "project"
    write_project(project, {"torch-ext/power_x/__init__.py": INIT, "torch-ext/power_x/table.json": "{}"})
    configure(make_spec(project, Noarch(pyext=("py", "json"))), CMAKE_CXX_COMPILER="none", CMAKE_C_COMPILER="none")
    artifact = build_and_install(tmp_path)["power-x"]
    assert sorted(path.name for path in artifact.iterdir()) == ["__init__.py", "_ops.py", "table.json"]
    assert artifact.name == "torch-cpu"


@pytest.mark.parametrize(
    ("defines", "planned", "told"),
    [
        ({}, MinorVersion(2, 7), f"planned for torch 2.7, and found torch `{TORCH}`"),
        ({"KERNEL_TORCH_SDK": "nowhere"}, TORCH, "There are no headers of torch in `nowhere`"),
        ({"KERNEL_PROJECT_DIR": "nowhere"}, TORCH, "not the absolute path of a kernel project"),
        (
            {"CMAKE_SYSTEM_NAME": "Generic", "CMAKE_SYSTEM_PROCESSOR": "m68k"},
            TORCH,
            "and is configured for m68k-generic",
        ),
    ],
)
def test_what_was_not_planned_stops_with_a_remedy(
    tmp_path: Path,
    configure: Callable[..., subprocess.CompletedProcess[str]],
    defines: dict[str, str],
    planned: MinorVersion,
    told: str,
) -> None:
    write_project(tmp_path / "project", {"torch-ext/power_x/__init__.py": "", "a.cpp": ""})
    component = Component("a", Backend.CPU, (), (P("a.cpp"),))
    completed = configure(
        make_spec(tmp_path / "project", TorchFramework(), component), planned=planned, check=False, **defines
    )
    assert completed.returncode != 0
    assert told in " ".join(completed.stderr.split())


def test_cuda_sources_are_translated_for_rocm(tmp_path: Path) -> None:
    write_project(
        tmp_path / "project",
        {
            "relu_cuda/relu.cu": '#include "launch_cuda.h"\n#include "deep/other_cuda.h"\nvoid f() { launch(); }\n',
            "relu_cuda/launch_cuda.h": "inline void launch() { cudaDeviceSynchronize(); }\n",
            "include/deep/other_cuda.h": "inline void other() { cudaDeviceReset(); }\n",
            "plain.cpp": "",
            "native.hip": "",
            ".git/config.h": "",
        },
    )
    sources = [tmp_path / "project" / name for name in ("relu_cuda/relu.cu", "plain.cpp", "native.hip")]
    script = Path(__file__).parents[2] / "templates" / "cmake" / "hipify.py"
    completed = subprocess.run(
        [
            sys.executable, script, "--torch", SDK, "--project", tmp_path / "project",
            "--output", tmp_path / "translated", f"--include={tmp_path}/project/include", "--", *sources,
        ],
        check=True, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    translated, *others = map(Path, completed.stdout.splitlines())
    assert others == sources[1:]
    assert translated.suffix == ".hip"
    assert translated.is_relative_to(tmp_path / "translated")
    headers = [path.read_text(encoding="utf-8") for path in (tmp_path / "translated").rglob("*_hip.h")]
    assert len(headers) == 2
    assert any("hipDeviceSynchronize" in header for header in headers)
    assert any("hipDeviceReset" in header for header in headers)
    assert not (tmp_path / "translated" / ".git").exists()
