"""What is in a generated project that golden files do not say in words."""

from __future__ import annotations

import tomllib
from pathlib import PurePosixPath

import pytest

from kernel_builder.backend import Backend
from kernel_builder.plan import ToolchainKey, plan_build
from kernel_builder.render import render_project
from kernel_builder.render.fileset import FileSet
from kernel_builder.spec.model import Component, Dependency, Framework, TorchFramework, TorchNoarchFramework
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import BINDING, DIGEST, make_environment, make_spec


def render(
    *components: Component,
    framework: Framework | None = None,
    faces: tuple[str, ...] = (),
    backend: Backend = Backend.CPU,
) -> FileSet:
    spec = make_spec(backend, framework=framework, components=components, faces=faces)
    plan = plan_build(spec, make_environment(cuda="13.0"), DIGEST)
    return render_project(plan, plan.toolchains[0])


def component(name: str, *depends: Dependency, source: str = "source.cpp") -> Component:
    return Component(name, Backend.CPU, depends, (PurePosixPath(source),))


def cmake(files: FileSet) -> str:
    return files[PurePosixPath("CMakeLists.txt")].decode()


def test_what_does_not_need_torch_is_compiled_once_for_all_faces() -> None:
    text = cmake(
        render(component("plain"), component("bound", Dependency.TORCH, source="bound.cpp"), faces=("other", "third"))
    )
    assert text.count("kernel_component(shared.plain") == 1
    assert text.count(".bound\n") == 3
    assert text.count(".binding\n") == 3


def test_with_one_variant_all_is_compiled_for_it() -> None:
    text = cmake(render(component("plain")))
    assert "shared." not in text
    assert text.count(".plain\n") == 1


def test_a_component_may_be_called_binding() -> None:
    text = cmake(render(component("binding", Dependency.TORCH)))
    assert text.count(".binding\n") == 1
    assert text.count(".binding_\n") == 1


def test_the_stable_abi_is_named_to_the_headers() -> None:
    framework = TorchFramework(src=BINDING, stable_abi={Backend.CPU: MinorVersion(2, 11)})
    assert '"TORCH_TARGET_VERSION=0x020b000000000000"' in cmake(render(framework=framework))
    assert "TORCH_TARGET_VERSION" not in cmake(render())


@pytest.mark.parametrize(("framework", "tag"), [(None, "cp39"), (TorchNoarchFramework(pyext=("json", ".py")), "py3")])
def test_the_wheel_is_for_every_python(framework: Framework | None, tag: str) -> None:
    settings = tomllib.loads(render(framework=framework)[PurePosixPath("pyproject.toml")].decode())
    assert settings["tool"]["scikit-build"]["wheel"]["py-api"] == tag
    assert settings["build-system"]["build-backend"] == "scikit_build_core.build"
    assert settings["project"]["name"] == "relu-x"


def test_every_module_that_is_included_is_there() -> None:
    for backend in (Backend.CPU, Backend.CUDA):
        files = render(backend=backend)
        modules = {path.stem for path in files if path.parts[0] == "cmake" and path.suffix == ".cmake"}
        texts = [content.decode() for path, content in files.items() if path.suffix in {".cmake", ".txt"}]
        included = {
            line.strip().removeprefix("include(").removesuffix(")")
            for text in texts
            for line in text.splitlines()
            if line.strip().startswith("include(")
        }
        assert included <= modules


def test_a_backend_that_is_not_planned_is_not_rendered() -> None:
    plan = plan_build(make_spec(Backend.CPU), make_environment(), DIGEST)
    with pytest.raises(ValueError, match="no variant for `cuda`"):
        render_project(plan, ToolchainKey(Backend.CUDA))
