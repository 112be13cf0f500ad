from __future__ import annotations

import pytest

from kernel_builder.audit.binary import BinaryFacts, Binding, Symbol, VersionNeed
from kernel_builder.audit.checks.symbols import check_symbols
from kernel_builder.audit.policy import load_policy
from kernel_builder.audit.report import Finding, Severity
from kernel_builder.variant import ArchVariant, parse_variant
from tests.unit.audit.samples import CLASSIC, STABLE, good_facts, undefined

POLICY = load_policy()


def check(facts: BinaryFacts, name: str = STABLE) -> list[Finding]:
    variant = parse_variant(name)
    assert isinstance(variant, ArchVariant)
    return list(check_symbols("lib.so", facts, variant, POLICY))


def rules_of(findings: list[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


@pytest.mark.parametrize("variant", [CLASSIC, STABLE])
def test_good_facts_have_no_finding(variant: str) -> None:
    assert check(good_facts(), variant) == []


@pytest.mark.parametrize(
    ("library", "version"),
    [
        ("libc.so.6", "GLIBC_2.29"),
        ("libc.so.6", "GLIBC_2.32"),
        ("libc.so.6", "GLIBC_2.100"),
        ("libc.so.6", "GLIBC_PRIVATE"),
        ("libc.so.6", "GLIBC_ABI_DT_RELR"),
        ("libm.so.6", "GLIBC_3.0"),
        ("libstdc++.so.6", "GLIBCXX_3.4.25"),
        ("libstdc++.so.6", "CXXABI_1.3.12"),
        ("libstdc++.so.6", "CXXABI_ARM_1.3.3"),
        ("libgcc_s.so.1", "GCC_12.0.0"),
        ("libgomp.so.1", "GOMP_5.1"),
        ("libc.so.6", "UNHEARD_1.0"),
    ],
)
def test_a_version_newer_than_the_policy_is_refused(library: str, version: str) -> None:
    facts = good_facts(undefined("f", version, library), version_needs=(VersionNeed(library, version),))
    (finding,) = check(facts)
    assert finding.rule == "symbol-versions"
    assert f"`{version}` of `{library}` for `f`" in finding.message


@pytest.mark.parametrize(
    ("library", "version"),
    [
        ("libc.so.6", "GLIBC_2.28"),
        ("libc.so.6", "GLIBC_2.2.5"),
        ("libstdc++.so.6", "GLIBCXX_3.4"),
        ("libstdc++.so.6", "GLIBCXX_3.4.24"),
        ("libstdc++.so.6", "CXXABI_TM_1"),
        ("libgcc_s.so.1", "GCC_7.0.0"),
        ("libgomp.so.1", "GOMP_5.0"),
        ("libgomp.so.1", "OMP_1.0"),
        ("libcudart.so.13", "libcudart.so.13"),
    ],
)
def test_an_old_version_and_one_that_comes_with_torch_pass(library: str, version: str) -> None:
    assert check(good_facts(version_needs=(VersionNeed(library, version),))) == []


def test_a_needed_version_counts_even_when_no_symbol_uses_it() -> None:
    (finding,) = check(good_facts(version_needs=(VersionNeed("libc.so.6", "GLIBC_2.36"),)))
    assert finding.message == "it needs `GLIBC_2.36` of `libc.so.6`, which hub does not have"


@pytest.mark.parametrize("name", ["_PyThreadState_UncheckedGet", "PyUnicode_AsUTF8", "_Py_Dealloc_", "PyFoo"])
def test_python_symbols_outside_of_the_stable_abi_are_refused(name: str) -> None:
    (finding,) = check(good_facts(undefined(name)))
    assert (finding.rule, finding.severity) == ("python-abi", Severity.ERROR)
    assert name in finding.message


@pytest.mark.parametrize(
    ("name", "added"), [("PyType_GetName", "3.11"), ("PyModule_AddObjectRef", "3.10"), ("Py_NewRef", "3.10")]
)
def test_newer_python_symbols_are_told_with_their_version(name: str, added: str) -> None:
    (finding,) = check(good_facts(undefined(name)))
    assert finding.rule == "python-abi"
    assert f"`{name}` came with Python {added}" in finding.message


@pytest.mark.parametrize("name", ["PyModule_Create2", "PyErr_SetString", "_Py_NoneStruct", "PyExc_TypeError", "Pythia"])
def test_the_limited_api_and_other_names_pass(name: str) -> None:
    assert check(good_facts(undefined(name))) == []


@pytest.mark.parametrize(
    "name",
    [
        "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs",
        "_ZNK2at10TensorBase4sizeEl",
        "_ZN5torch7LibraryC1ENS0_4KindE",
        "_ZTIN3c1010TensorImplE",
        "_ZTVN5torch8autograd4NodeE",
        "_ZN6caffe28TypeMeta26error_unsupported_typemetaES0_",
    ],
)
def test_torch_cxx_symbols_are_refused_where_the_stable_abi_is_claimed(name: str) -> None:
    assert rules_of(check(good_facts(undefined(name)))) == {"torch-stable-abi"}
    classic = check(good_facts(undefined(name)), CLASSIC)
    assert [(finding.rule, finding.severity) for finding in classic] == [("torch-classic-abi", Severity.NOTE)]


@pytest.mark.parametrize(
    "name",
    ["_ZN5torch6stable6TensorC1Ev", "_ZN5torch10headeronly4HalfE", "_ZNSt6vectorIN2at6TensorEED1Ev", "_ZN4atom1fEv"],
)
def test_header_only_and_other_cxx_symbols_pass(name: str) -> None:
    assert check(good_facts(undefined(name))) == []


def test_shims_newer_than_the_claimed_version_are_refused() -> None:
    facts = good_facts(undefined("torch_from_blob"), undefined("torch_parallel_for"))
    (finding,) = check(facts)
    assert finding.rule == "torch-shims"
    assert finding.message == "`torch_from_blob` came with torch 2.11, the variant claims 2.10"
    assert check(facts, "torch-stable-abi211-cpu-x86_64-linux") == []


@pytest.mark.parametrize("name", ["torch_make_coffee", "aoti_torch_cpu_make_coffee"])
def test_unknown_shims_are_refused(name: str) -> None:
    (finding,) = check(good_facts(undefined(name)))
    assert finding.rule == "torch-shims"
    assert "no stable function" in finding.message


def test_many_symbols_make_one_finding() -> None:
    (finding,) = check(good_facts(*(undefined(f"PyFoo_{number}") for number in range(1000))))
    assert "and 995 more" in finding.message


def test_unique_symbols_are_told() -> None:
    unique = Symbol("_ZZ1fvE1x", defined=True, binding=Binding.UNIQUE)
    (finding,) = check(good_facts(unique))
    assert (finding.rule, finding.severity) == ("unique-symbols", Severity.WARNING)
