from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.compile.model import FileTiming
from kernel_builder.compile.ninja import list_timings, load_flags, load_steps, name_step, parse_progress

SOURCES = [PurePosixPath("relu.cpp"), PurePosixPath("cpu/relu.cpp")]
OBJECT = "CMakeFiles/_relu_cpu_1.relu.dir/src/project/cpu/relu.cpp.o"


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("[3/17] Building CXX object x.o", (3, 17, "Building CXX object x.o")),
        ("[17/17] Linking", (17, 17, "Linking")),
        ("[3/17]", None),
        ("-- [3/17] no", None),
        ("[x/17] no", None),
    ],
)
def test_progress_is_read_from_ninjas_lines(line: str, progress: tuple[int, int, str] | None) -> None:
    assert parse_progress(line) == progress


def test_a_step_is_named_after_the_longest_source_that_fits() -> None:
    assert name_step(f"Building CXX object {OBJECT}", SOURCES) == "cpu/relu.cpp"
    assert name_step("Building C object CMakeFiles/compat.dir/compat/clocks.c.o", SOURCES) == "clocks.c"
    assert name_step("Linking CXX shared module x.abi3.so", SOURCES) == "Linking CXX shared module x.abi3.so"


def write_log(build_dir: Path, *rows: str) -> None:
    (build_dir / ".ninja_log").write_text("# ninja log v7\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")


def test_only_the_steps_of_this_run_are_timed(tmp_path: Path) -> None:
    assert load_steps(tmp_path) == {}
    write_log(tmp_path, f"0\t2000\t11\t{OBJECT}\taa", "2000\t2500\t12\tx.abi3.so\tbb")
    first = load_steps(tmp_path)
    assert list_timings({}, first, SOURCES) == (FileTiming("cpu/relu.cpp", 2.0), FileTiming("x.abi3.so", 0.5))
    assert list_timings(first, first, SOURCES) == ()
    write_log(
        tmp_path, f"0\t2000\t11\t{OBJECT}\taa", "2000\t2500\t12\tx.abi3.so\tbb", "0\t250\t13\tx.abi3.so\tbb", "broken"
    )
    assert list_timings(first, load_steps(tmp_path), SOURCES) == (FileTiming("x.abi3.so", 0.25),)


def test_flags_are_those_of_the_variant_and_name_no_place(tmp_path: Path) -> None:
    def command(source: str, *flags: str) -> dict[str, str]:
        words = ["/usr/bin/c++", *flags, "-o", f"{source}.o", "-c", f"/project/{source}"]
        return {"file": f"/project/{source}", "command": " ".join(words), "directory": str(tmp_path)}

    places = (
        "-I/project/include",
        "-include/project/nameless.h",
        "-isystem /usr/torch/include",
        "-ffile-prefix-map=/project=.",
        "-MD -MF x.d",
    )
    commands = [
        command("binding.cpp", "-DTORCH_EXTENSION_NAME=_a_cpu_1", "-O3", *places),
        command("other.cpp", "-DTORCH_EXTENSION_NAME=_b_cpu_2", "-Ofast"),
        command("shared.cpp", "-O3", "-mavx2", "'-DNAME=\"a b\"'"),
    ]
    (tmp_path / "compile_commands.json").write_text(json.dumps(commands), encoding="utf-8")
    flags = load_flags(tmp_path, ["_a_cpu_1", "_b_cpu_2"])
    assert flags["_a_cpu_1"] == ("-DTORCH_EXTENSION_NAME=_a_cpu_1", "-O3", "-mavx2", '-DNAME="a b"')
    assert flags["_b_cpu_2"] == ("-DTORCH_EXTENSION_NAME=_b_cpu_2", "-Ofast", "-O3", "-mavx2", '-DNAME="a b"')


@pytest.mark.parametrize("text", [None, "{", "[1]", '[{"file": "x"}]'])
def test_without_a_readable_database_there_are_no_flags(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "compile_commands.json").write_text(text, encoding="utf-8")
    assert load_flags(tmp_path, ["_a_cpu_1"]) == {}
