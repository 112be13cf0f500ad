from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from kernel_builder.backend import Backend
from kernel_builder.cli import commands
from kernel_builder.host import HostPlatform
from kernel_builder.spec.reader import load_spec
from kernel_builder.syntax import SyntaxReport, check_syntax
from kernel_builder.syntax.metal import find_clang
from kernel_builder.torch_sdk import TorchSdk, probe_torch

FIXTURES = Path(__file__).parents[2] / "fixtures" / "kernels"
LINUX = HostPlatform("x86_64", "linux")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if find_clang() is None:
        pytest.skip("there is no clang on this machine to read Metal sources with")
    return Path(shutil.copytree(FIXTURES / "relu-metal", tmp_path / "relu-metal"))


def check(project: Path, torch: TorchSdk | None = None) -> SyntaxReport:
    return check_syntax(load_spec(project).spec, LINUX, torch)


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_good_shaders_and_their_launcher_are_read(project: Path) -> None:
    report = check(project, probe_torch())
    assert not report.problems
    assert report.checked == ("relu_metal/relu.mm", "relu_metal/relu.metal")
    assert dict(report.unchecked)[Backend.XPU].startswith("only DPC++ reads SYCL")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("simd_max(", "simd_maximum(", 18, "use of undeclared identifier 'simd_maximum'"),
        ("arguments.count) return", "arguments.number) return", 17, "no member named 'number'"),
        ("T(y[index]);", "T(y[index])", 23, "expected ';'"),
    ],
)
def test_a_mistake_in_a_shader_is_told_by_its_line(project: Path, old: str, new: str, line: int, says: str) -> None:
    spoil(project / "relu_metal/relu.metal", old, new)
    problem = check(project).problems[0]
    assert says in problem.message
    assert problem.location is not None
    assert (problem.location.file, problem.location.line) == ("relu_metal/relu.metal", line)


def test_a_message_that_no_object_understands_is_told(project: Path) -> None:
    spoil(project / "relu_metal/relu.mm", "endEncoding", "finishEncoding")
    (problem,) = check(project, probe_torch()).problems
    assert "'-finishEncoding' not found" in problem.message


def declare_units(project: Path, suffix: str) -> None:
    """Turn a source of the project into a template with one axis."""
    declaration = (project / "build.toml").read_text(encoding="utf-8")
    listed = f'"relu_metal/relu{suffix}"'
    assert listed in declaration
    declaration = declaration.replace(f"{listed}, ", "")
    matrix = f'[[kernel.relu_metal.instantiate]]\ntemplate = "relu_metal/relu{suffix}.j2"\naxes.type = ["float"]\n'
    (project / "build.toml").write_text(f"{declaration}\n{matrix}", encoding="utf-8")
    source = project / f"relu_metal/relu{suffix}"
    text = source.read_text(encoding="utf-8") + "// {{ type }}\n"
    source.rename(f"{source}.j2").write_text(text, encoding="utf-8")


def test_shaders_that_are_units_are_read_beside_the_headers_of_their_template(project: Path) -> None:
    declare_units(project, ".metal")
    report = check(project)
    assert not report.problems
    assert report.checked == ("relu_metal/relu_float.metal",)
    with (project / "relu_metal/relu.metal.j2").open("a", encoding="utf-8") as template:
        template.write("unknown_{{ type }} spoiled;\n")
    problem = check(project).problems[0]
    assert "unknown_float" in problem.message
    assert problem.location is not None
    assert problem.location.file == "relu_metal/relu_float.metal"


def test_launchers_that_are_units_are_read_too(project: Path) -> None:
    declare_units(project, ".mm")
    report = check(project, probe_torch())
    assert not report.problems
    assert "relu_metal/relu_float.mm" in report.checked


def test_without_torch_only_shaders_are_read(project: Path) -> None:
    report = check(project)
    assert report.checked == ("relu_metal/relu.metal",)
    assert "no torch was found" in dict(report.unchecked)[Backend.METAL]


def test_without_clang_nothing_is_pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_builder.syntax.check.find_clang", lambda: None)
    report = check(FIXTURES / "relu-metal")
    assert report.checked == ()
    assert "no clang was found" in dict(report.unchecked)[Backend.METAL]


def test_on_a_mac_a_build_compiles_it() -> None:
    report = check_syntax(load_spec(FIXTURES / "relu-metal").spec, HostPlatform("aarch64", "darwin"), None)
    assert dict(report.unchecked)[Backend.METAL] == "`kernel-builder build` compiles it"


def test_the_command_says_what_it_did_and_what_not(project: Path) -> None:
    result = CliRunner().invoke(commands, ["check", "--syntax", "--json", str(project)])
    told = json.loads(result.stdout)["syntax"]
    assert told["checked"] == ["relu_metal/relu.mm", "relu_metal/relu.metal"]
    assert set(told["unchecked"]) == {"xpu"}
