from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_builder import doctor
from kernel_builder.backend import FACTS, Backend
from kernel_builder.doctor import probe_checks
from kernel_builder.environment import probe_surroundings
from kernel_builder.errors import ToolchainMissingError
from kernel_builder.plan import ToolchainKey, ToolchainOffer
from kernel_builder.toolchains.offers import probe_toolkit
from kernel_builder.toolchains.system import probe_cxx, probe_pip_tool
from kernel_builder.version import MinorVersion

NVCC = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.8, V12.8.93"
HIPCC = "HIP version: 6.4.43482-0f2d60242\nAMD clang version 19.0.0git"
ICPX = "Intel(R) oneAPI DPC++/C++ Compiler 2025.3.1 (2025.3.1.20251023)\nTarget: x86_64"


def make_program(directory: Path, name: str, answer: str, code: int = 0) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path with nothing on it but `sh` and `cat`, and no variable that names a tool."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "cat"):
        real = next(Path(part) / name for part in os.environ["PATH"].split(":") if (Path(part) / name).exists())
        (place / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(place))
    for name in ("CXX", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "ROCM_HOME", "CMPLR_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.mark.parametrize(
    ("answer", "name", "version"),
    [
        ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc.", "gcc", "12.2.0"),
        ("g++ (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0\nFree Software Foundation", "gcc", "13.3.0"),
        ("Debian clang version 19.1.7 (3~deb12u1)\nTarget: x86_64", "clang", "19.1.7"),
        ("Apple clang version 17.0.0 (clang-1700.0.13.5)", "apple-clang", "17.0.0"),
        (ICPX, "icpx", "2025.3.1"),
    ],
)
def test_compilers_are_told_apart(bare: Path, answer: str, name: str, version: str) -> None:
    make_program(bare, "c++", answer)
    tool = probe_cxx()
    assert tool is not None
    assert (tool.name, tool.version, tool.path) == (name, version, bare / "c++")


def test_the_first_that_answers_is_taken(bare: Path) -> None:
    make_program(bare, "c++", "broken", code=1)
    make_program(bare, "g++", "nonsense without a number")
    make_program(bare, "clang++", "clang version 18.1.0")
    tool = probe_cxx()
    assert tool is not None
    assert tool.path.name == "clang++"


def test_without_a_compiler_there_is_none(bare: Path) -> None:
    del bare
    assert probe_cxx() is None


def test_the_users_compiler_wins_with_its_words(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_program(bare, "c++", "g++ 12.2.0")
    make_program(bare, "ccache", "g++ 14.1.0\nFree Software Foundation")
    monkeypatch.setenv("CXX", "ccache g++ -m64")
    tool = probe_cxx()
    assert tool is not None
    assert tool.argv == (str(bare / "ccache"), "g++", "-m64")
    assert tool.version == "14.1.0"


@pytest.mark.parametrize("chosen", ["no-such-compiler", "'unbalanced", "/"])
def test_a_users_compiler_that_does_not_run_is_said(bare: Path, monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    del bare
    monkeypatch.setenv("CXX", chosen)
    with pytest.raises(ToolchainMissingError, match="`CXX`"):
        probe_cxx()


def test_cmake_and_ninja_come_with_this_python(bare: Path) -> None:
    make_program(bare, "cmake", "cmake version 3.1.0")
    for name in ("cmake", "ninja"):
        tool = probe_pip_tool(name)
        assert tool is not None
        assert tool.path.parent != bare
        assert tool.version[0].isdigit()


def test_another_tool_is_found_on_the_path(bare: Path) -> None:
    make_program(bare, "some-tool", "some-tool version 1.2.3")
    tool = probe_pip_tool("some-tool")
    assert tool is not None
    assert (tool.version, tool.path) == ("1.2.3", bare / "some-tool")
    assert probe_pip_tool("no-such-tool") is None


@pytest.mark.parametrize(
    ("backend", "program", "variable", "answer", "version"),
    [
        (Backend.CUDA, "nvcc", "CUDA_HOME", NVCC, "12.8"),
        (Backend.ROCM, "hipcc", "ROCM_PATH", HIPCC, "6.4"),
        (Backend.XPU, "icpx", "CMPLR_ROOT", ICPX, "2025.3"),
    ],
)
def test_toolkits_are_found_by_path_and_by_home(  # noqa: PLR0917 - pytest passes by name
    monkeypatch: pytest.MonkeyPatch,
    bare: Path,
    backend: Backend,
    program: str,
    variable: str,
    answer: str,
    version: str,
) -> None:
    monkeypatch.setattr("kernel_builder.toolchains.cuda.HOMES", ())
    home = bare.parent / "home"
    make_program(bare, program, "not what it should say")
    assert probe_toolkit(backend) is None
    make_program(home / "bin", program, answer)
    monkeypatch.setenv(variable, str(home))
    toolkit = probe_toolkit(backend)
    assert toolkit is not None
    assert (toolkit.tool.version.startswith(version), toolkit.tool.path.parent) == (True, home / "bin")
    here = probe_surroundings(backends=(backend,))
    assert f"{backend}-{version}" in [str(offer.key) for offer in here.environment.offers]


def test_a_backend_that_compiles_nothing_has_no_toolkit() -> None:
    assert probe_toolkit(Backend.TPU) is None


def test_the_torch_at_hand_is_the_one_to_plan_for() -> None:
    here = probe_surroundings(backends=())
    (installed,), (torch,) = here.installed, here.environment.torches
    assert torch.release == installed.release
    assert {build.backend for build in torch.builds or ()} >= {Backend.CPU, *installed.accelerators}
    assert [str(offer.key) for offer in here.environment.offers] == ["cpu"]


def test_the_doctor_looks_for_everything() -> None:
    checks = {(check.group, check.name): check for check in probe_checks()}
    for name in ("python", "python headers", "C++ compiler", "cmake", "ninja"):
        assert checks["build", name].required
        assert checks["build", name].found
    assert checks["build", "torch"].found
    assert "2.10" in (checks["build", "other torches"].detail or "")
    assert {group for group, _ in checks} == {
        "build",
        *(str(backend) for backend in Backend if backend is not Backend.CPU),
    }
    for check in checks.values():
        assert check.found or check.remedy, f"{check.name} is missing, and nobody says what to do"


def test_the_doctor_says_what_would_help(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe_pip_tool", {}.get)
    monkeypatch.setattr(doctor, "probe_free_memory", lambda: 1 << 20)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / name))
    make_program(bare, "apt-get", "")
    checks = {check.name: check for check in probe_checks(torch=tmp_path)}
    assert checks["C++ compiler"].remedy == "apt-get install g++"
    assert checks["python headers"].remedy == "apt-get install python3-dev"
    assert checks["cmake"].remedy == "pip install 'cmake>=3.29'"
    assert checks["git"].remedy == "apt-get install git"
    assert checks["memory"].remedy == "end other programs, or build with `--jobs 1`"
    assert checks["torch"].detail == f"there is no torch at `{tmp_path}`"
    assert not checks["torch"].found


def test_every_compiled_backend_has_a_remedy() -> None:
    compiled = {backend for backend, facts in FACTS.items() if facts.is_compiled}
    assert compiled - {Backend.CPU} == set(doctor._DEVICE_REMEDIES)


def test_the_doctor_says_which_archs_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ToolchainKey(Backend.ROCM, MinorVersion(5, 2))
    offer = ToolchainOffer(key, "clang 19.1.7", archs=("gfx90a", "gfx942"), check_only=("gfx942",))
    monkeypatch.setattr(doctor, "list_offers", lambda _host, _backends: (offer,))
    details = [check.detail for check in probe_checks() if check.name == "ROCm 5.2"]
    assert details == ["clang 19.1.7; compiles for gfx90a; for checking only: gfx942"]
