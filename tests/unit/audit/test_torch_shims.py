"""The table of torch's stable functions against the torch that is installed, and the script that derives it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kernel_builder.audit.elf import read_elf
from kernel_builder.audit.importing import probe_torch
from kernel_builder.audit.policy import load_torch_shims
from kernel_builder.version import MinorVersion

SCRIPT = Path(__file__).parents[3] / "scripts" / "derive_torch_shims.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("derive_torch_shims", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def torch_dir() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def parse(script: ModuleType, text: str) -> list[tuple[str, tuple[int, int]]]:
    parse_header: Callable[[str], list[tuple[str, tuple[int, int]]]] = script.parse_header
    return list(parse_header(text))


def test_guards_nest_and_end(script: ModuleType) -> None:
    text = """
    AOTI_TORCH_EXPORT AOTITorchError old(int a, void (*f)(int));
    #if TORCH_FEATURE_VERSION >= TORCH_VERSION_2_10_0
    /* AOTI_TORCH_EXPORT int commented(); */ // AOTI_TORCH_EXPORT int commented_too();
    AOTI_TORCH_EXPORT const char* newer();
    # ifdef USE_CUDA
    AOTI_TORCH_EXPORT
    void newer_cuda(
        int a);
    # else
    AOTI_TORCH_EXPORT int32_t newer_without();
    # endif
    #endif // 2.10
    #if TORCH_FEATURE_VERSION < TORCH_VERSION_2_10_0
    AOTI_TORCH_EXPORT AOTITorchError legacy();
    #endif
    """
    assert parse(script, text) == [
        ("old", (0, 0)),
        ("newer", (2, 10)),
        ("newer_cuda", (2, 10)),
        ("newer_without", (2, 10)),
        ("legacy", (0, 0)),
    ]


def test_headers_that_are_not_torchs_are_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not hold the headers"):
        script.load_release(tmp_path)


def test_the_table_agrees_with_the_installed_headers(script: ModuleType, torch_dir: Path) -> None:
    release, guards = script.load_release(torch_dir / "include")
    _, introduced = load_torch_shims()
    for name, guard in guards.items():
        assert MinorVersion(*guard) <= introduced[name] <= MinorVersion(*release), name
    absent = {name for name, version in introduced.items() if version <= MinorVersion(*release)} - set(guards)
    assert absent == set()


def test_the_table_knows_every_stable_function_that_the_installed_torch_exports(torch_dir: Path) -> None:
    exported = {symbol.name for symbol in read_elf(torch_dir / "lib" / "libtorch_cpu.so").exported()}
    stable = {name for name in exported if name.startswith(("torch_", "aoti_torch_"))}
    torch, (_, introduced) = probe_torch(), load_torch_shims()
    assert torch is not None
    assert len(stable) > 300
    assert {name for name in stable if name not in introduced or introduced[name] > torch} == set()
