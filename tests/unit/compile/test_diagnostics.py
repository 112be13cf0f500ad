from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.compile.diagnostics import explain_failure
from kernel_builder.errors import CompileError, Location

LOG = Path("build.log")


def explain(text: str, project: Path = Path("/project")) -> CompileError:
    return explain_failure(text.splitlines(), what="cpu", project=project, log=LOG)


def test_a_compilers_error_points_at_the_authors_file(tmp_path: Path) -> None:
    (tmp_path / "relu_cpu").mkdir()
    source = tmp_path / "relu_cpu/relu.cpp"
    source.touch()
    error = explain(
        f"[3/9] Building CXX object CMakeFiles/x.dir{source}.o\n"
        "FAILED: [code=1] CMakeFiles/x.dir/relu.cpp.o\n"
        f"{source}: In function ‘void relu()’:\n"  # noqa: RUF001 - as GCC prints it
        f"{source}:12:10: error: ‘numel’ was not declared in this scope\n"  # noqa: RUF001
        "   12 |   return numel(x);\n"
        "      |          ^~~~~\n"
        "ninja: build stopped: subcommand failed.\n",
        tmp_path,
    )
    (problem,) = error.problems
    assert problem.location == Location("relu_cpu/relu.cpp", 12)
    assert problem.message == (
        "compiling for cpu failed: `numel` was not declared in this scope\n"
        "     12 |   return numel(x);\n"
        "        |          ^~~~~"
    )
    assert problem.hint == "the whole output is in `build.log`"


def test_the_first_three_different_errors_are_told() -> None:
    lines = "".join(f"a.cpp:{number}:1: error: wrong {number}\n" * 2 for number in range(1, 9))
    error = explain(lines)
    assert [problem.location for problem in error.problems] == [Location("a.cpp", number) for number in (1, 2, 3)]
    assert [problem.hint is None for problem in error.problems] == [True, True, False]


@pytest.mark.parametrize(
    ("line", "location"),
    [
        ('relu.cu(7): error: identifier "x" is undefined', Location("relu.cu", 7)),
        ("relu.cpp:7:3: error: unknown type name 'x'", Location("relu.cpp", 7)),
        ("relu.cpp:7:3: fatal error: no.h: No such file or directory", Location("relu.cpp", 7)),
        ("relu.cpp:7: error: old style", Location("relu.cpp", 7)),
    ],
)
def test_errors_of_every_compiler_are_found(line: str, location: Location) -> None:
    assert explain(f"noise\n{line}\nnoise").problems[0].location == location


def test_warnings_are_not_errors() -> None:
    error = explain("a.cpp:1:2: warning: unused\nsomething went wrong")
    assert "something went wrong" in error.problems[0].message
    assert error.problems[0].location is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/usr/bin/ld: cannot find -lfoo: No such file or directory", "cannot find -lfoo: No such file or directory"),
        ("x.cpp:(.text+0x5): undefined reference to `foo()'", "undefined reference to `foo()'"),
        (
            "/usr/bin/ld: x.o:(.bss+0x0): multiple definition of `foo'; y.o: first defined here",
            "multiple definition of",
        ),
        ("ld.lld: error: undefined symbol: foo", "undefined symbol: foo"),
    ],
)
def test_a_linkers_error_is_quoted(line: str, message: str) -> None:
    assert message in explain(f"[9/9] Linking\n{line}\ncollect2: error: ld returned 1 exit status").problems[0].message


def test_an_error_of_cmake_is_one_paragraph() -> None:
    error = explain(
        "-- Detecting\n"
        "CMake Error at cmake/KernelTorch.cmake:12 (message):\n"
        "  This project was planned for torch 2.13,\n"
        "\n"
        "  and found torch `2.11`.\n"
        "Call Stack (most recent call first):\n"
        "  CMakeLists.txt:4 (kernel_expect_torch)\n"
        "\n"
        "-- Configuring incomplete, errors occurred!\n"
    )
    assert error.problems[0].message == (
        "building for cpu failed: This project was planned for torch 2.13, and found torch `2.11`."
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a.cpp:1:1: fatal error: error writing to a.s: No space left on device", "the disk is full"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
        ("a.h:1:10: fatal error: Python.h: No such file or directory", "headers of Python"),
        ("a.h:1:10: fatal error: ATen/ATen.h: No such file or directory", "name `torch` in `depends`"),
        ("a.h:1:10: fatal error: cutlass/cutlass.h: No such file or directory", "add the directory of the header"),
        ("The C++ compiler is not able to compile a simple test program.", "the compiler does not work"),
    ],
)
def test_what_is_known_to_help_is_said(text: str, hint: str) -> None:
    problem = explain(text).problems[-1]
    assert problem.hint is not None
    assert hint in problem.hint
    assert problem.hint.endswith("the whole output is in `build.log`")


def test_without_a_known_error_the_end_of_the_output_is_quoted() -> None:
    message = explain("\n".join(f"line {number}" for number in range(40))).problems[0].message
    assert "line 39" in message
    assert "line 24" not in message
    assert "(it said nothing)" in explain("").problems[0].message


def test_an_error_in_a_unit_names_its_template(tmp_path: Path) -> None:
    unit = tmp_path / ".kernel-builder/cpu/project/units/cpu/part_float.cpp"
    error = explain_failure(
        [f"{unit}:5:3: error: expected a type"],
        what="cpu",
        project=tmp_path,
        log=Path("build.log"),
        templates={unit: PurePosixPath("cpu/part.cpp.j2")},
    )
    assert error.problems[0].message == "compiling what `cpu/part.cpp.j2` makes for cpu failed: expected a type"
    assert str(error.problems[0].location) == ".kernel-builder/cpu/project/units/cpu/part_float.cpp:5"
