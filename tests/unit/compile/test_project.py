from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.compile import CompiledTree, compile_project, open_workspace
from kernel_builder.errors import BadInputError, CompileError, ToolchainMissingError
from kernel_builder.plan import ToolchainKey
from kernel_builder.planning import PlannedProject, plan_project
from kernel_builder.progress import ignore_progress
from kernel_builder.render.fileset import FileSet
from kernel_builder.render.project import list_sdk_variables, render_project

CPU = ToolchainKey(Backend.CPU)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "kernels"


def plan(name: str, place: Path) -> PlannedProject:
    return plan_project(Path(shutil.copytree(FIXTURES / name, place / name)))


def compile_it(planned: PlannedProject, work: Path, fileset: FileSet | None = None) -> CompiledTree:
    with open_workspace(work, ignore_progress) as workspace:
        return compile_project(
            render_project(planned.plan, CPU, planned.inputs.templates) if fileset is None else fileset,
            planned.plan,
            CPU,
            toolchain=planned.toolchain,
            sdks={key: sdk for key in list_sdk_variables(planned.plan.variants).values() for sdk in planned.installed},
            workspace=workspace,
            listener=ignore_progress,
        )


def test_a_python_package_is_collected_without_a_compiler_or_torch(tmp_path: Path) -> None:
    planned = plan("relu-noarch", tmp_path)
    planned = replace(planned, toolchain=replace(planned.toolchain, cxx=None), installed=())
    tree = compile_it(planned, tmp_path / "work")
    directory = tree.directory(planned.plan.variants[0])
    assert {path.name for path in directory.iterdir()} == {"__init__.py", "_ops.py", "layers"}
    assert tree.timings == ()
    assert tree.log.exists()


@pytest.mark.parametrize("tool", ["cxx", "torch", "cmake", "ninja"])
def test_what_a_compiled_kernel_needs_is_asked_for(tmp_path: Path, tool: str) -> None:
    planned = plan("relu-stable", tmp_path)
    whole = planned.toolchain
    planned = {
        "cxx": replace(planned, toolchain=replace(whole, cxx=None)),
        "torch": replace(planned, installed=()),
        "cmake": replace(planned, toolchain=replace(whole, cmake=None)),
        "ninja": replace(planned, toolchain=replace(whole, ninja=None)),
    }[tool]
    with pytest.raises(ToolchainMissingError, match="is not on this machine") as raised:
        compile_it(planned, tmp_path / "work")
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].hint is not None


@pytest.mark.parametrize(
    "name",
    ["semi;colon", "br[a]cket", "back\\slash", 'quo"te', "new\nline", "pi|pe", "$(touch x)", "${HOME}", "$ENV{HOME}"],
)
def test_a_path_that_cmake_cannot_carry_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(BadInputError, match="CMake cannot work in a directory with"):
        compile_it(plan("relu-noarch", tmp_path / name), tmp_path / "work")
    with pytest.raises(BadInputError, match="CMake cannot work in a directory with"):
        compile_it(plan("relu-noarch", tmp_path), tmp_path / name / "work")


@pytest.mark.parametrize("name", ["sp ace", "quo'te", "{x}", "$HOME", "`x`", "#hash", "ünï", "-dash", "a&b", "100%"])
def test_any_other_path_works(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    planned = plan("relu-noarch", tmp_path / name)
    assert (compile_it(planned, tmp_path / name / "work").directory(planned.plan.variants[0]) / "_ops.py").exists()


def test_a_file_that_went_away_is_gone_from_the_next_tree(tmp_path: Path) -> None:
    planned = plan("relu-noarch", tmp_path)
    compile_it(planned, tmp_path / "work")
    shutil.rmtree(planned.spec.root / "torch-ext/relu_noarch/layers")
    tree = compile_it(planned, tmp_path / "work")
    assert not (tree.directory(planned.plan.variants[0]) / "layers").exists()


def test_a_failure_of_the_generated_project_is_told_in_its_words(tmp_path: Path) -> None:
    planned = plan("relu-noarch", tmp_path)
    files = dict(render_project(planned.plan, CPU, planned.inputs.templates))
    listfile = next(path for path in files if path.name == "CMakeLists.txt")
    files[listfile] += b'message(FATAL_ERROR "The plan and the machine differ.")\n'
    with pytest.raises(CompileError, match=r"building for cpu failed: The plan and the machine differ\."):
        compile_it(planned, tmp_path / "work", FileSet(files))


def test_a_build_directory_of_another_place_is_not_used(tmp_path: Path) -> None:
    planned = plan("relu-noarch", tmp_path)
    compile_it(planned, tmp_path / "work")
    (tmp_path / "work").rename(tmp_path / "moved")
    stray = tmp_path / "moved" / "cpu" / "build" / "stray"
    stray.touch()
    compile_it(planned, tmp_path / "moved")
    assert not stray.exists()
