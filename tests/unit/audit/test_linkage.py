from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from kernel_builder.audit.binary import BinaryFacts, BinaryFormat, Binding, Symbol
from kernel_builder.audit.checks.linkage import check_format, check_linkage
from kernel_builder.audit.policy import load_policy
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Library, Subject
from kernel_builder.variant import ArchVariant, parse_variant
from tests.unit.audit.samples import CLASSIC, ID, good_facts, good_metadata, undefined

POLICY = load_policy()
PATH = PurePosixPath(f"{ID}.abi3.so")


def subject_of(variant: str = CLASSIC) -> Subject:
    return Subject(
        directory=Path(variant),
        name=variant,
        variant=parse_variant(variant),
        variant_problem=None,
        metadata=good_metadata(),
        metadata_problem=None,
        metadata_present=True,
        files=(PATH,),
        irregular=(),
        libraries=(),
    )


def check(facts: BinaryFacts, variant: str = CLASSIC) -> list[Finding]:
    return list(check_linkage(Library(PATH, BinaryFormat.ELF, facts), facts, subject_of(variant), POLICY))


def test_good_facts_have_no_finding() -> None:
    assert check(good_facts()) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"machine": "aarch64"}, "binary-machine"),
        ({"rpath": ("$ORIGIN/../torch/lib",)}, "run-path"),
        ({"rpath": ("",)}, "run-path"),
        ({"text_relocations": True}, "text-relocations"),
        ({"executable_stack": True}, "executable-stack"),
        ({"source_paths": ("/builds/me/kernel.cpp",)}, "source-paths"),
        ({"debug_sections": (".debug_info",)}, "debug-sections"),
        ({"needed": ("libtorch_cpu.so", "libpython3.11.so.1.0")}, "needed-libraries"),
        ({"needed": ("libtorch_cpu.so", "libomp.so.5")}, "needed-libraries"),
        ({"needed": ("libtorch_cpu.so", "/elsewhere/lib/libc.so.6")}, "needed-libraries"),
        ({"needed": ("libtorch_cpu.so", "libcudart.so.13")}, "needed-libraries"),
        ({"needed": ("libc.so.6",)}, "needed-torch"),
        ({"needed": ("libc10.so", "libc.so.6")}, "needed-torch"),
        ({"symbols": ()}, "init-function"),
    ],
)
def test_one_fault_makes_one_finding(changes: dict[str, Any], rule: str) -> None:
    assert [finding.rule for finding in check(good_facts(**changes))] == [rule]


@pytest.mark.parametrize(
    ("variant", "needed"),
    [
        (CLASSIC, "libgomp.so.1"),
        (CLASSIC, "libtorch_python.so"),
        ("torch213-cxx11-cu130-x86_64-linux", "libcudart.so.13"),
        ("torch213-cxx11-cu130-x86_64-linux", "libc10_cuda.so"),
        ("torch-stable-abi210-rocm71-x86_64-linux", "libamdhip64.so.7"),
        ("torch213-cxx11-xpu20261-x86_64-linux", "libsycl.so.9"),
    ],
)
def test_libraries_that_come_with_torch_are_allowed(variant: str, needed: str) -> None:
    assert check(good_facts(needed=("libtorch_cpu.so", needed)), variant) == []


def test_a_library_of_c10_is_enough_for_symbols_of_c10() -> None:
    symbols = (*good_facts().symbols[:2], undefined("_ZN3c105ErrorE"))
    assert check(good_facts(symbols=symbols, needed=("libc10.so",))) == []


def test_no_torch_library_is_needed_without_torch_symbols() -> None:
    assert check(good_facts(symbols=good_facts().symbols[:2], needed=("libc.so.6",))) == []


@pytest.mark.parametrize(
    "symbol",
    [
        Symbol("PyInit_relu", defined=True, binding=Binding.GLOBAL),
        Symbol(f"PyInit_{ID}", defined=False, binding=Binding.GLOBAL),
        Symbol(f"PyInit_{ID}", defined=True, binding=Binding.LOCAL),
    ],
)
def test_the_init_function_must_be_exported_under_the_id(symbol: Symbol) -> None:
    (finding,) = check(good_facts(symbols=(symbol, *good_facts().symbols[1:])))
    assert finding.rule == "init-function"


def test_a_tvm_ffi_variant_needs_no_init_function() -> None:
    facts = good_facts(symbols=(), needed=("libtvm_ffi.so", "libc.so.6"))
    assert check(facts, "tvm-ffi01-cpu-x86_64-linux") == []
    assert [finding.rule for finding in check(facts)] == ["needed-libraries", "init-function"][::-1]


@pytest.mark.parametrize(
    ("variant", "kind", "problem", "rule"),
    [
        (CLASSIC, BinaryFormat.MACH_O, None, "binary-format"),
        (CLASSIC, BinaryFormat.PE, None, "binary-format"),
        (CLASSIC, BinaryFormat.UNKNOWN, None, "binary-format"),
        (CLASSIC, BinaryFormat.ELF, "it is cut off", "binary-format"),
        ("torch213-cpu-aarch64-darwin", BinaryFormat.MACH_O, None, "binary-unaudited"),
        ("torch213-cpu-x86_64-windows", BinaryFormat.PE, None, "binary-unaudited"),
        ("torch213-cpu-aarch64-darwin", BinaryFormat.ELF, None, "binary-format"),
    ],
)
def test_a_binary_that_cannot_be_vouched_for_is_refused(
    variant: str, kind: BinaryFormat, problem: str | None, rule: str
) -> None:
    parsed = parse_variant(variant)
    assert isinstance(parsed, ArchVariant)
    (finding,) = check_format(Library(PATH, kind, None, problem), parsed, POLICY)
    assert finding.rule == rule


def test_an_executable_or_object_file_is_no_library() -> None:
    parsed = parse_variant(CLASSIC)
    assert isinstance(parsed, ArchVariant)
    facts = replace(good_facts(), is_shared=False)
    (finding,) = check_format(Library(PATH, BinaryFormat.ELF, facts), parsed, POLICY)
    assert finding.rule == "binary-format"
