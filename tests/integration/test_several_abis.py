"""Several torch releases in one project: what knows no torch is compiled once, and each binding for its own torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest
import torch

from kernel_builder.backend import Backend
from kernel_builder.host import probe_host
from kernel_builder.plan import BuildPlan, plan_build
from kernel_builder.render import render_project
from kernel_builder.render.project import list_sdk_variables
from kernel_builder.spec.model import BuildSpec, Component, General, TorchFramework
from kernel_builder.toolchains.system import probe_pip_tool
from kernel_builder.version import MinorVersion
from tests.integration.conftest import Build as RunBuilder
from tests.unit.plan.projects import make_environment, make_torch

P = PurePosixPath
LIBRARIES = Path(torch.__file__).parent / "lib"

BINDING = """
#include "registration.h"
#include <torch/headeronly/version.h>
int add(int, int);
int twice(int);
#define TEXT(x) #x
#define TELL(major, minor, standard) "torch " TEXT(major) "." TEXT(minor) ", C++ " TEXT(standard) ";"
__attribute__((used)) static const char told[] = TELL(TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, __cplusplus);
__attribute__((used)) static int sum() { return add(twice(1), 1); }
REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
"""
KERNEL = """
#if __has_include(<torch/headeronly/version.h>)
#error "a component without torch sees the headers of one"
#endif
int {name}(int first{more}) {{ return first + {what}; }}
"""


DECLARATION = """
[general]
name = "sums"
version = 1
edition = 5
license = "Apache-2.0"
backends = ["cpu"]

[torch]
src = ["binding.cpp"]

[kernel.adding]
backend = "cpu"
depends = []
src = ["add.cpp"]

[kernel.doubling]
backend = "cpu"
depends = []
src = ["twice.cpp"]
"""


def write_sdk(place: Path, release: str) -> Path:
    """A torch as far as a binding without ATen needs it: a version, and the real libraries to link."""
    header = place / "include" / "torch" / "headeronly" / "version.h"
    header.parent.mkdir(parents=True)
    major, minor = release.split(".")
    header.write_text(f"#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n", encoding="utf-8")
    (place / "version.py").write_text(f"__version__ = '{release}.0'\n", encoding="utf-8")
    (place / "lib").symlink_to(LIBRARIES)
    return place


class Build:
    """One generated project, compiled by the real tools, that counts what its compiler is started for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spec = BuildSpec(
            root=root / "project",
            edition=5,
            general=General("sums", 1, "Apache-2.0", (Backend.CPU,)),
            framework=TorchFramework(src=(P("binding.cpp"),)),
            components=(
                Component("adding", Backend.CPU, (), (P("add.cpp"),)),
                Component("doubling", Backend.CPU, (), (P("twice.cpp"),)),
            ),
        )
        self.spec.root.mkdir()
        (self.spec.root / "sums").mkdir()
        for name, text in {
            "binding.cpp": BINDING,
            "add.cpp": KERNEL.format(name="add", more=", int second", what="second"),
            "twice.cpp": KERNEL.format(name="twice", more="", what="first"),
            "torch-ext/sums/__init__.py": "",
        }.items():
            (self.spec.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.spec.root / name).write_text(text, encoding="utf-8")
        self.log = root / "compiled.log"
        self.launcher = root / "launcher"
        self.launcher.write_text(f'#!/bin/sh\necho "$@" >> "{self.log}"\nexec "$@"\n', encoding="utf-8")
        self.launcher.chmod(0o755)

    def run(self, releases: Iterable[str]) -> tuple[BuildPlan, Counter[str]]:
        """Build for these releases; gives the plan, and how often each source was compiled this time."""
        torches = [make_torch(release) for release in releases]
        plan = plan_build(self.spec, make_environment(*torches, host=probe_host()), "0" * 64)
        (toolchain,) = plan.toolchains
        render_project(plan, toolchain).write_to(self.root / "made")
        cmake, ninja = probe_pip_tool("cmake"), probe_pip_tool("ninja")
        assert cmake is not None
        assert ninja is not None
        defines = {
            "KERNEL_PROJECT_DIR": self.spec.root,
            "KERNEL_HEAVY_JOBS": 1,
            "CMAKE_MAKE_PROGRAM": ninja.argv[0],
            "CMAKE_CXX_COMPILER_LAUNCHER": self.launcher,
            "CMAKE_C_COMPILER_LAUNCHER": "",
            "Python_EXECUTABLE": sys.executable,
        }
        for name, key in list_sdk_variables(plan.variants).items():
            sdk = self.root / f"torch-{key.release}"
            defines[name] = sdk if sdk.exists() else write_sdk(sdk, str(key.release))
        words = [f"-D{name}={value}" for name, value in defines.items()]
        self.log.write_text("", encoding="utf-8")
        subprocess.run(
            [*cmake.argv, "-G", "Ninja", "-S", self.root / "made", "-B", self.root / "build", *words], check=True
        )
        subprocess.run([*cmake.argv, "--build", self.root / "build", "-j2"], check=True)
        lines = self.log.read_text(encoding="utf-8").splitlines()
        own = [line.split(" -c ")[-1] for line in lines if f" -c {self.spec.root}/" in line]
        return plan, Counter(Path(source).name for source in own)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


@pytest.mark.compile
def test_n_abis_of_m_sources_cost_n_bindings_and_m_kernels(build: Build) -> None:
    plan, counted = build.run(["2.11", "2.12", "2.13"])
    assert counted == {"binding.cpp": 3, "add.cpp": 1, "twice.cpp": 1}

    # Each library is of the headers and the C++ standard of its own torch.
    libraries = [build.root / "build" / f"{variant.unique_id}.abi3.so" for variant in plan.variants]
    told = [re.findall(rb"torch 2[.]\d+, C[+][+] \d+L;", library.read_bytes()) for library in libraries]
    assert told == [[b"torch 2.11, C++ 201703L;"], [b"torch 2.12, C++ 202002L;"], [b"torch 2.13, C++ 202002L;"]]

    # It is the same one whatever else is asked for.
    (build.root / "fewer").mkdir()
    fewer = Build(build.root / "fewer")
    assert fewer.run(["2.11", "2.15"])[0].variants[0] == plan.variants[0]
    assert (fewer.root / "build" / libraries[0].name).read_bytes() == libraries[0].read_bytes()

    # What needs much memory waits for its turn.
    ninja = (build.root / "build" / "build.ninja").read_text(encoding="utf-8")
    rules = (build.root / "build" / "CMakeFiles" / "rules.ninja").read_text(encoding="utf-8")
    assert "pool heavy\n  depth = 1\n" in ninja + rules
    assert ninja.count("pool = heavy") == 3

    # One more ABI costs its binding and nothing else, and none costs nothing.
    assert build.run(["2.11", "2.12", "2.13", "2.15"])[1] == {"binding.cpp": 1}
    assert build.run(["2.11", "2.12", "2.13", "2.15"])[1] == {}


@pytest.mark.compile
def test_the_command_makes_an_artifact_for_each_torch(build: Build, run_builder: RunBuilder) -> None:
    (build.spec.root / "build.toml").write_text(DECLARATION, encoding="utf-8")
    torches = [write_sdk(build.root / release / "torch", release) for release in ("2.11", "2.13")]
    words = [word for place in torches for word in ("--torch", str(place))]
    made = run_builder("build", "--json", build.spec.root, *words)
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert [artifact["variant"].partition("-")[0] for artifact in document["artifacts"]] == ["torch211", "torch213"]
    records = [
        json.loads((Path(artifact["path"]) / "metadata.json").read_text(encoding="utf-8"))["x-kernel-builder"]
        for artifact in document["artifacts"]
    ]
    assert [record["torch"] for record in records] == ["2.11.0", "2.13.0"]
    assert ["-std=gnu++17" in record["flags"] for record in records] == [True, False]
    # What nobody here can import is not claimed to have been.
    (note,) = (
        finding["message"]
        for finding in document["artifacts"][0]["audit"]["findings"]
        if finding["rule"] == "import-done"
    )
    assert note == f"the artifact was not imported: torch here is {MinorVersion.parse_release(torch.__version__)}"
    assert "compile cpu: [1/" in made.stderr

    again = json.loads(run_builder("build", "--json", build.spec.root, *words).stdout)
    assert [project["timings"] for project in again["backends"]] == [[]]
