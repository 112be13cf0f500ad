"""The Metal shaders without a Mac: run on the CPU under an emulator, and read by clang with their address spaces."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.metal_emulated import ATTRIBUTE, HOST, PROJECT, ROOT, SOURCES, blank_attributes, run_compiler

STAND_INS = ROOT / "builder" / "kernel_builder" / "syntax" / "stand_ins" / "metal"
SHADERS = sorted(PROJECT.glob("**/*.metal"))
SPACES = {"device": 1, "constant": 2, "threadgroup": 3}
THREAD = [
    "threadgroup_position_in_grid",
    "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
]


@pytest.mark.compile
@pytest.mark.parametrize("subject", ["rows", "layers", "forward", "backward"])
def test_shaders_under_an_emulator(subject: str, emulator_objects: list[Path], tmp_path: Path) -> None:
    """The shaders' own source: results against fp64, threadgroup memory raced for or read too early, strays outside."""
    program, hosts = tmp_path / subject, [PROJECT / path for path in HOST]
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}")
    run_compiler(*flags, SOURCES / f"metal_{subject}_test.cpp", *hosts, *emulator_objects, "-o", program)
    finished = subprocess.run([program], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The builder's stand-ins, whose address spaces are made real: clang holds pointers of each apart."""
    folder = tmp_path_factory.mktemp("spaces")
    for path in STAND_INS.iterdir():
        text = path.read_text(encoding="utf-8")
        for word, number in SPACES.items():
            plain = "const" if word == "constant" else ""
            text = re.sub(
                rf"^#define {word}( {plain})?$",
                rf"#define {word} {plain} __attribute__((address_space({number})))",
                text,
                flags=re.MULTILINE,
            )
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def read_by_clang(shader: Path, stand_ins: Path) -> str:
    clang = next(filter(None, map(shutil.which, ("clang++-19", "clang++-20", "clang++"))), None)
    if clang is None:
        pytest.skip("needs clang")
    flags = ["-x", "c++", "-std=c++17", "-nostdinc", "-nostdinc++", "-fsyntax-only", "-D__METAL_VERSION__=310"]
    read = subprocess.run(
        [clang, *flags, "-Wno-everything", f"-I{stand_ins}", str(shader)], check=False, capture_output=True, text=True
    )
    return "" if read.returncode == 0 else read.stderr


@pytest.mark.parametrize("shader", SHADERS, ids=lambda path: path.name)
def test_pointers_keep_their_address_spaces(shader: Path, spaced: Path, tmp_path: Path) -> None:
    blank_attributes(tmp_path)
    assert read_by_clang(tmp_path / shader.relative_to(PROJECT), spaced) == ""


def test_a_pointer_without_its_address_space_is_found(spaced: Path, tmp_path: Path) -> None:
    header = blank_attributes(tmp_path) / "metal" / "tile.h"
    text = header.read_text(encoding="utf-8")
    assert "device const T* from" in text
    header.write_text(text.replace("device const T* from", "threadgroup const T* from"), encoding="utf-8")
    assert "copy_rows" in read_by_clang(tmp_path / "metal" / "forward.metal", spaced)


@pytest.mark.parametrize("shader", SHADERS, ids=lambda path: path.name)
def test_arguments_lie_where_the_emulator_takes_them_from(shader: Path) -> None:
    """It reads no attributes: buffers from slot 0 on without gaps, threadgroup memory, then who the thread is."""
    headers = "\n".join(path.read_text(encoding="utf-8") for path in sorted((PROJECT / "metal").glob("*.h")))
    macros = {name: ATTRIBUTE.findall(body) for name, body in re.findall(r"#define (FA_\w+)((?:.*\\\n)*.*)", headers)}
    text = shader.read_text(encoding="utf-8")
    kernels = re.findall(r"(?:kernel|\]\]) void (\w+)\((.*?)\)\s*\{", text, flags=re.DOTALL)
    assert kernels
    for name, arguments in kernels:
        found: list[str] = []
        for piece in re.findall(rf"{ATTRIBUTE.pattern}|FA_\w+", arguments):
            found += [piece] if piece.startswith("[[") else macros[piece]
        attributes = [attribute.strip("[]") for attribute in found]
        buffers = [attribute for attribute in attributes if attribute.startswith("buffer(")]
        rest = [attribute for attribute in attributes[len(buffers) :] if attribute != "threadgroup(0)"]
        assert attributes[: len(buffers)] == [f"buffer({slot})" for slot in range(len(buffers))], name
        assert rest == THREAD, name


def test_the_builder_reads_shaders_and_their_launcher() -> None:
    """With its stand-ins for the headers of Apple: names, arguments, selectors."""
    if shutil.which("clang++-19") is None and shutil.which("clang++") is None:
        pytest.skip("needs clang")
    command = [sys.executable, "-m", "kernel_builder", "check", str(ROOT), "--syntax", "--json"]
    read = subprocess.run(command, check=False, capture_output=True, text=True)
    assert read.returncode == 0, read.stdout + read.stderr
    checked = {ROOT / path for path in json.loads(read.stdout)["syntax"]["checked"]}
    assert checked == {*SHADERS, *PROJECT.glob("**/*.mm")}


def test_source_that_is_embedded_is_whole(spaced: Path, tmp_path: Path) -> None:
    """Where Apple's compiler is not, one text holds all shaders and what they include."""
    template = ROOT / "templates" / "cmake"
    command = [sys.executable, "-m", "cmake", f"-DINPUTS={';'.join(map(str, SHADERS))}", "-DINCLUDE="]
    command += [f"-DOUTPUT={tmp_path / 'shaders.h'}", f"-DTEMPLATE={template / 'kernel_shaders.h.in'}"]
    command += [f"-DKERNEL_PROJECT_DIR={ROOT}", f"-DKERNEL_UNITS_DIR={tmp_path / 'units'}"]
    subprocess.run([*command, "-P", str(template / "EmbedShaders.cmake")], check=True)
    text = (tmp_path / "shaders.h.metal").read_text(encoding="utf-8")
    assert '#include "' not in text
    assert "#pragma once" not in text
    body = (tmp_path / "shaders.h").read_text(encoding="utf-8").split("source[] = {")[1].split("}")[0]
    assert bytes(int(word, 16) for word in re.findall(r"0x(..)", body)) == text.encode() + bytes(1)
    (tmp_path / "shaders.metal").write_text(ATTRIBUTE.sub("", text), encoding="utf-8")
    assert read_by_clang(tmp_path / "shaders.metal", spaced) == ""


def test_variants_are_named_as_clients_look_for_them() -> None:
    command = [sys.executable, "-m", "kernel_builder", "plan", str(ROOT), "--backend", "metal", "--json"]
    command += ["--assume", "host=aarch64-darwin", "--assume", "torch=2.13"]
    planned = subprocess.run(command, check=True, capture_output=True, text=True)
    names = {variant["variant"] for variant in json.loads(planned.stdout)["plan"]["variants"]}
    assert names == {"torch-stable-abi210-metal-aarch64-darwin"}


def test_nothing_stands_in_shaders_that_metal_does_not_have() -> None:
    """Clang knows C++ better than Metal does: 64 bits are called `long` there, and there are no lambdas."""
    headers = [path for folder in ("core", "metal", "layers/metal") for path in (PROJECT / folder).glob("*.h")]
    hosts = {"launch.h", "problem.h", "device.h"}
    for path in [*SHADERS, *headers]:
        if path.name in hosts:
            continue
        code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        code = code.split("#else\n#define FA_INFINITY __builtin")[0] + code.rpartition("#endif")[2]
        for banned in (r"\blong long\b", r"\bdouble\b", r"\bstd::", r"\[[&=\w]*\]\s*\(", r"\bvirtual\b", r"\bnew\b"):
            assert not re.search(banned, code), f"{path.name}: {banned}"
