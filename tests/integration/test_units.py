"""Units that are made of templates, through the real CMake and compilers: what each finds, and what it becomes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch

from kernel_builder.backend import Backend
from kernel_builder.host import probe_host
from kernel_builder.plan import plan_build
from kernel_builder.render import render_project
from kernel_builder.spec.model import BuildSpec, Component, General, InstantiationMatrix, TorchFramework
from kernel_builder.toolchains.system import probe_pip_tool
from kernel_builder.version import MinorVersion
from tests.integration.test_generated_project import run_cmake, write_project
from tests.unit.plan.projects import make_environment

TEMPLATES = Path(__file__).parents[2] / "templates" / "cmake"
SDK = Path(torch.__file__).parent
P = PurePosixPath
TEMPLATE = """\
#include "part.h"
#include "../shared/shared.h"

{{ dtype }} part_{{ dtype }}({{ dtype }} value) { return part(value); }
const char* place_of_{{ dtype }}() { return __FILE__; }
const char* place_of_header_for_{{ dtype }}() { return place_of_part(); }
"""
FILES = {
    "torch-ext/twin/__init__.py": "",
    "src dir/part.h": '#pragma once\n#include "nested.h"\ninline const char* place_of_part() { return __FILE__; }\n',
    "src dir/nested.h": "#pragma once\ntemplate <class T> T part(T value) { return value + 1; }\n",
    "shared/shared.h": "#pragma once\n",
    "include/part.h": '#error "a header beside the template goes before the include directories"\n',
}


def compile_part(place: Path, component: Component, files: dict[str, str]) -> bytes:
    """The object of `part_float.cpp` from a project at `place`, configured by plain CMake and compiled as it says."""
    project = place / "project"
    write_project(project, FILES | files)
    spec = BuildSpec(
        project, 5, General("twin", 1, "Apache-2.0", (Backend.CPU,)), TorchFramework(), components=(component,)
    )
    release = MinorVersion.parse_release(torch.__version__)
    plan = plan_build(spec, make_environment(host=probe_host(), torch=str(release)), "0" * 64)
    templates = {P(name): text for name, text in files.items() if name.endswith(".j2")}
    render_project(plan, plan.toolchains[0], templates).write_to(place / "made")
    ninja = probe_pip_tool("ninja")
    assert ninja is not None
    run_cmake(
        "-S", place / "made", "-B", place / "build", "-G", "Ninja", f"-DKERNEL_PROJECT_DIR={project}",
        f"-DKERNEL_TORCH_SDK={SDK}", f"-DCMAKE_MAKE_PROGRAM={ninja.argv[0]}", f"-DPython_EXECUTABLE={sys.executable}",
    )  # fmt: skip
    commands = json.loads((place / "build" / "compile_commands.json").read_text(encoding="utf-8"))
    (entry,) = (entry for entry in commands if Path(entry["file"]).name == "part_float.cpp")
    target = Path(entry["directory"], entry["output"])
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["sh", "-c", entry["command"]], check=True, cwd=entry["directory"])
    return target.read_bytes()


def test_a_unit_becomes_what_a_file_beside_its_template_would(tmp_path: Path) -> None:
    """The same bytes, debug information and `__FILE__` with them, in any directory."""
    matrix = InstantiationMatrix(P("src dir/part.cpp.j2"), {"dtype": ("float",)})
    file = (P("src dir/part_float.cpp"),)
    listed = Component("part", Backend.CPU, (), file, include=(P("include"),), cxx_flags=("-g",))
    made = replace(listed, src=(), instantiate=(matrix,))
    unit = compile_part(tmp_path / "a", made, {"src dir/part.cpp.j2": TEMPLATE})
    text = TEMPLATE.replace("{{ dtype }}", "float")
    assert unit == compile_part(tmp_path / "some other, place", listed, {"src dir/part_float.cpp": text})
    assert b"./src dir/part_float.cpp" in unit
    assert str(tmp_path).encode() not in unit


def test_units_are_translated_for_rocm_beside_the_headers_of_their_template(tmp_path: Path) -> None:
    write_project(
        tmp_path,
        {
            "project/cuda/launch_cuda.h": "inline void launch() { cudaDeviceSynchronize(); }\n",
            "made/units/cuda/relu_float.cu": '#include "launch_cuda.h"\nvoid relu_float() { launch(); }\n',
            "made/units/cuda/plain_float.cpp": "",
        },
    )
    sources = [tmp_path / "made" / "units" / "cuda" / name for name in ("relu_float.cu", "plain_float.cpp")]
    made, project, out = tmp_path / "made" / "units", tmp_path / "project", tmp_path / "translated"
    command: list[str | Path] = [
        sys.executable,
        TEMPLATES / "hipify.py",
        f"--torch={SDK}",
        f"--project={project}",
        f"--units={made}",
    ]
    command += [f"--output={out}", "--", *sources]
    completed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    translated, other = map(Path, completed.stdout.splitlines())
    assert other == sources[1]
    assert translated == tmp_path / "translated" / "hip" / "relu_float.hip"
    assert '#include "../hip/launch_hip.h"' in translated.read_text(encoding="utf-8")
    assert "hipDeviceSynchronize" in (translated.parent / "launch_hip.h").read_text(encoding="utf-8")


def test_shaders_that_are_units_are_embedded_with_the_headers_of_their_template(tmp_path: Path) -> None:
    write_project(
        tmp_path,
        {
            "project/metal/shape.h": "#pragma once\nconstant int shape = 1;\n",
            "project/metal/listed.metal": '#include "shape.h"\nkernel void listed() {}\n',
            "made/units/metal/scan_float.metal": '#include "shape.h"\nkernel void scan_float() {}\n',
        },
    )
    (tmp_path / "link").symlink_to(tmp_path / "made")
    shaders = f"{tmp_path}/link/units/metal/scan_float.metal;{tmp_path}/project/metal/listed.metal"
    header = tmp_path / "shaders.h"
    run_cmake(
        f"-DINPUTS={shaders}", "-DINCLUDE=", f"-DOUTPUT={header}", f"-DTEMPLATE={TEMPLATES / 'kernel_shaders.h.in'}",
        f"-DKERNEL_PROJECT_DIR={tmp_path / 'project'}", f"-DKERNEL_UNITS_DIR={tmp_path / 'link' / 'units'}",
        "-P", TEMPLATES / "EmbedShaders.cmake",
    )  # fmt: skip
    text = Path(f"{header}.metal").read_text(encoding="utf-8")
    assert [text.count(word) for word in ("constant int shape", "scan_float", "listed", "#include")] == [1, 1, 1, 0]
