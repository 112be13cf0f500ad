"""The generated projects of one `build.toml` per folder of `projects/`, byte for byte.

Each folder holds, beside the `build.toml`, `plan.json` and a directory for each backend. Files that are copied from
`templates/` are not repeated there: `files.txt` lists all files, and says of what a copied one is the copy.
`UPDATE_GOLDEN=1` rewrites the folders.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.plan import BuildPlan, describe_plan, plan_build
from kernel_builder.render import FileSet, render_project
from kernel_builder.spec.reader import load_spec
from tests.unit.plan.projects import make_environment, make_torch

PROJECTS = Path(__file__).parent / "projects"
TEMPLATES = Path(__file__).parents[2] / "templates"
INPUTS_DIGEST = "0123456789abcdef" * 4

CPU = make_environment()
CUDA = make_environment(cuda="13.0", tvm_ffi="0.1")
ENVIRONMENTS = {
    "cpu-classic": CPU,
    "cpu-stable-abi": CPU,
    "cuda": CUDA,
    "cuda-stable-abi": make_environment(host=HostPlatform("aarch64", "linux"), torch="2.11", cuda="12.6"),
    "faces": CUDA,
    "hostile-flags": CPU,
    "instantiate": CUDA,
    "metal": make_environment(host=HostPlatform("aarch64", "darwin")),
    "noarch": make_environment(torch=None),
    "rocm": make_environment(rocm="7.1"),
    "several-abis": make_environment(*map(make_torch, ("2.11", "2.13", "2.15")), cuda="12.6 13.0"),
    "tvm-ffi": CUDA,
    "xpu": make_environment(xpu="2025.3"),
}


def plan_case(case: str) -> BuildPlan:
    spec = load_spec(PROJECTS / case, check_files=False).spec
    return plan_build(spec, ENVIRONMENTS[case], INPUTS_DIGEST)


def read_templates(plan: BuildPlan) -> dict[PurePosixPath, str]:
    """The templates that a case declares units of."""
    paths = {path for component in plan.spec.components for path in component.templates}
    return {path: (plan.spec.root / path).read_text(encoding="utf-8") for path in paths}


def find_original(path: PurePosixPath, content: bytes) -> Path | None:
    """The template that a generated file is a copy of."""
    name = path.name.removeprefix("Kernel") if path.name in {"KernelBackend.cmake", "KernelFramework.cmake"} else ""
    pattern = f"cmake/{name.removesuffix('.cmake').lower()}/*.cmake" if name else str(path)
    return next((found for found in sorted(TEMPLATES.glob(pattern)) if found.read_bytes() == content), None)


def list_expected(case: str) -> dict[PurePosixPath, bytes]:
    """What belongs into the folder of a case."""
    plan = plan_case(case)
    description = json.dumps(describe_plan(plan), indent=2, ensure_ascii=False) + "\n"
    expected = {PurePosixPath("plan.json"): description.encode()}
    for toolchain in plan.toolchains:
        listed = []
        for path, content in render_project(plan, toolchain, read_templates(plan)).items():
            original = find_original(path, content)
            if original is None:
                expected[PurePosixPath(str(toolchain), path)] = content
                listed.append(str(path))
            else:
                listed.append(f"{path} = templates/{original.relative_to(TEMPLATES).as_posix()}")
        expected[PurePosixPath(str(toolchain), "files.txt")] = "".join(f"{line}\n" for line in listed).encode()
    return expected


@pytest.mark.parametrize("case", sorted(ENVIRONMENTS))
def test_generated_project(case: str) -> None:
    folder = PROJECTS / case
    expected = list_expected(case)
    if os.environ.get("UPDATE_GOLDEN"):
        for path in folder.iterdir():
            if path.is_dir() and not list(path.rglob("*.j2")):
                shutil.rmtree(path)
        for name, content in expected.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    present = {
        PurePosixPath(path.relative_to(folder).as_posix()): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "build.toml" and path.suffix != ".j2"
    }
    assert sorted(present) == sorted(expected), "a golden file is missing, or nothing makes it any more"
    for name, content in expected.items():
        assert present[name].decode() == content.decode(), name


def test_every_folder_is_a_case() -> None:
    assert sorted(path.name for path in PROJECTS.iterdir()) == sorted(ENVIRONMENTS)


def test_every_compiled_backend_has_a_case() -> None:
    rendered = {backend for case in ENVIRONMENTS for backend in plan_case(case).backends}
    assert rendered == {Backend.CPU, Backend.CUDA, Backend.METAL, Backend.ROCM, Backend.XPU}


def test_no_generated_file_holds_a_path_of_this_machine() -> None:
    for case in ENVIRONMENTS:
        plan = plan_case(case)
        for toolchain in plan.toolchains:
            files: FileSet = render_project(plan, toolchain, read_templates(plan))
            for path, content in files.items():
                assert str(PROJECTS.parents[2]).encode() not in content, (case, path)
