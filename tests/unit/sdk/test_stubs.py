"""Libraries to link to: what a linker makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from kernel_builder.host import HostPlatform
from kernel_builder.sdk.stubs import render_elf_stub, render_text_stub, write_stub
from kernel_builder.toolchains.system import probe_cxx

LINUX = HostPlatform("x86_64", "linux")


def read_tags(path: Path, tag: str) -> list[str]:
    with path.open("rb") as stream:
        (dynamic,) = (section for section in ELFFile(stream).iter_sections() if isinstance(section, DynamicSection))
        return [getattr(entry, tag.removeprefix("DT_").lower()) for entry in dynamic.iter_tags(tag)]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_stub_is_a_shared_object_with_a_name(tmp_path: Path, machine: str) -> None:
    path = write_stub(tmp_path, "torch_cpu", HostPlatform(machine, "linux"))
    assert path.name == "libtorch_cpu.so"
    assert read_tags(path, "DT_SONAME") == ["libtorch_cpu.so"]
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        assert elf["e_type"] == "ET_DYN"
        assert elf["e_machine"] == {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}[machine]
        assert [segment["p_type"] for segment in elf.iter_segments()] == ["PT_LOAD", "PT_DYNAMIC", "PT_GNU_STACK"]


@pytest.mark.compile
def test_what_is_linked_to_stubs_needs_the_real_libraries(tmp_path: Path) -> None:
    cxx = probe_cxx()
    assert cxx is not None
    for name in ("torch_cpu", "c10"):
        write_stub(tmp_path, name, LINUX)
    (tmp_path / "soname.so").write_bytes(render_elf_stub("libcublas.so.13", "x86_64"))
    (tmp_path / "op.cpp").write_text("int defined_in_torch(); int op() { return defined_in_torch(); }\n")
    libraries = ["libtorch_cpu.so", "libc10.so", "soname.so"]
    linked = subprocess.run(
        [*cxx.argv, "-shared", "-fPIC", "op.cpp", "-o", "op.so", "-Wl,--no-as-needed", *libraries],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linked.returncode == 0, linked.stderr
    assert linked.stderr == ""
    assert read_tags(tmp_path / "op.so", "DT_NEEDED")[:3] == ["libtorch_cpu.so", "libc10.so", "libcublas.so.13"]


def test_for_a_mac_the_stub_is_text(tmp_path: Path) -> None:
    path = write_stub(tmp_path, "torch_cpu", HostPlatform("aarch64", "darwin"))
    assert path.name == "libtorch_cpu.tbd"
    text = path.read_text(encoding="ascii")
    assert text == render_text_stub("libtorch_cpu.dylib", "aarch64")
    assert text.startswith("--- !tapi-tbd\n")
    assert "install-name: '@rpath/libtorch_cpu.dylib'\n" in text


@pytest.mark.parametrize("host", ["x86_64-windows", "riscv64-linux", "s390x-darwin"])
def test_other_platforms_have_no_stubs(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match="there are no stub libraries"):
        write_stub(tmp_path, "c10", HostPlatform.parse(host))
