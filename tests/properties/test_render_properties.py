"""What holds for every project that is planned and rendered, and for every string that goes into one."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_builder.backend import FACTS, Backend
from kernel_builder.host import HostPlatform
from kernel_builder.plan import BuildEnvironment, plan_build
from kernel_builder.plan.archs import default_archs, intersect_cuda
from kernel_builder.render import render_project
from kernel_builder.render.quoting import (
    quote_argument,
    quote_arguments,
    quote_flags,
    quote_path,
    quote_python,
    quote_toml,
)
from kernel_builder.spec.model import (
    BuildSpec,
    Component,
    Dependency,
    Face,
    General,
    TorchFramework,
    TorchNoarchFramework,
)
from kernel_builder.spec.names import parse_compiled_path, parse_flag
from kernel_builder.spec.problems import BadValueError
from kernel_builder.toolchains.system import probe_pip_tool
from kernel_builder.variant import parse_variant
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import make_environment, make_torch

HOSTILE = (
    ";", '"', "\\", "\\;", "${X}", "$ENV{HOME}", "@X@", "#", "#[[", "]]", "[=[", "]=]", ")(", "$<CONFIG>", "$<", ">",
    "-", "--", "\n", "\r\n", "\t", " ", "'", "`", "é", "😀", "\\n", "$", "{", "}", "%", ",", ":", "SHELL:", "\x7f",
)  # fmt: skip
PIECES = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=3)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


def changes_in_list(text: str) -> bool:
    return bool(set(text) & set(";[]")) or "$<" in text or text.endswith("\\")


def is_accepted(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except BadValueError:
        return False
    return True


def is_flag(text: str) -> bool:
    return is_accepted(parse_flag, text)


def is_path(text: str) -> bool:
    return is_accepted(parse_compiled_path, text)


COMPONENTS = st.builds(
    Component,
    name=st.from_regex(r"[a-z][a-z0-9_.+-]{0,5}", fullmatch=True),
    backend=st.sampled_from([backend for backend in Backend if FACTS[backend].is_compiled]),
    depends=st.sets(st.sampled_from(list(Dependency)), max_size=3).map(tuple),
    src=st.just((PurePosixPath("src/one.cpp"), PurePosixPath("src/two.cu"))),
    cxx_flags=st.lists(TEXTS.filter(is_flag), max_size=3).map(tuple),
    cuda_capabilities=st.sets(st.sampled_from(["8.0", "9.0", "9.0a", "8.6+PTX"]), max_size=3).map(tuple),
    rocm_archs=st.sets(st.sampled_from(["gfx942", "gfx90a", "gfx1100"]), max_size=2).map(tuple),
)
VERSIONS = st.builds(MinorVersion, st.just(2), st.integers(0, 20))
FRAMEWORKS = st.builds(
    TorchFramework,
    src=st.just((PurePosixPath("torch-ext/torch_binding.cpp"),)),
    stable_abi=st.dictionaries(st.sampled_from(list(Backend)), VERSIONS, max_size=3),
) | st.builds(TorchNoarchFramework, pyext=st.sampled_from([("py",), ("py", "json"), ("json", "py")]))


KERNEL_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,4}[a-z]", fullmatch=True)


@st.composite
def specs(draw: st.DrawFn) -> BuildSpec:
    framework = draw(FRAMEWORKS)
    components = draw(st.lists(COMPONENTS, max_size=4, unique_by=lambda component: component.name))
    names = draw(
        st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,4}[a-z]", fullmatch=True), min_size=1, max_size=3, unique=True)
    )
    backends = draw(st.sets(st.sampled_from(list(Backend)), min_size=1))
    return BuildSpec(
        root=Path("project"),
        edition=5,
        general=General(names[0], 1, "Apache-2.0", tuple(backends)),
        framework=framework,
        components=() if isinstance(framework, TorchNoarchFramework) else tuple(components),
        faces=tuple(Face(name) for name in names[1:]),
    )


def make_surroundings(host: HostPlatform, releases: list[str], **toolkits: str) -> BuildEnvironment:
    torches = [make_torch(release) for release in releases]
    return make_environment(*torches, host=host, torch=None, **toolkits)


ENVIRONMENTS = st.builds(
    make_surroundings,
    host=st.sampled_from([HostPlatform("x86_64", "linux"), HostPlatform("aarch64", "darwin")]),
    releases=st.lists(VERSIONS.map(str), max_size=3, unique=True),
    cuda=st.sampled_from(["", "12.6", "13.0", "12.6 13.0"]),
    rocm=st.sampled_from(["", "7.1"]),
    xpu=st.sampled_from(["", "2025.3"]),
)
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


def run_cmake_script(lines: list[str]) -> str:
    """What a script writes to the file that it is told to write; the real CMake reads it."""
    cmake = probe_pip_tool("cmake")
    assert cmake is not None
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "script.cmake")
        script.write_bytes("\n".join(['set(OUT "${CMAKE_CURRENT_LIST_DIR}/out")', *lines, ""]).encode())
        subprocess.run([*cmake.argv, "-P", str(script)], check=True, capture_output=True)
        return Path(directory, "out").read_bytes().decode()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, min_size=30, max_size=60))
def test_any_text_is_one_argument_of_cmake(texts: list[str]) -> None:
    """Through a function's named parameter, as templates pass it; many texts a run, since starting CMake takes long."""
    lines = [
        "function(note index)",
        '  cmake_parse_arguments(PARSE_ARGV 1 arg "" "VALUE" "")',
        '  file(APPEND "${OUT}" "<${index}>${arg_VALUE}</${index}>")',
        "endfunction()",
    ]
    lines += [f"note({index} VALUE {quote_argument('=' + text)})" for index, text in enumerate(texts)]
    expected = "".join(f"<{index}>={text}</{index}>" for index, text in enumerate(texts))
    assert run_cmake_script(lines) == expected


@settings(max_examples=6, deadline=None)
@given(st.lists(TEXTS.filter(lambda text: not changes_in_list(text)), min_size=1, max_size=40))
def test_texts_stay_apart_in_a_list(texts: list[str]) -> None:
    lines = [
        "function(note)",
        '  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "VALUES")',
        "  foreach(value IN LISTS arg_VALUES)",
        '    file(APPEND "${OUT}" "<${value}>")',
        "  endforeach()",
        "endfunction()",
        f"note(VALUES {quote_arguments('=' + text for text in texts)})",
    ]
    assert run_cmake_script(lines) == "".join(f"<={text}>" for text in texts)


@given(TEXTS.filter(changes_in_list))
def test_text_that_a_list_would_change_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rename"):
        quote_arguments([text])


@given(TEXTS)
def test_text_in_python_is_that_text(text: str) -> None:
    namespace: dict[str, str] = {}
    exec(f"value = {quote_python(text)}", namespace)  # noqa: S102 - the point of the test
    assert namespace["value"] == text


@given(TEXTS)
def test_text_in_toml_is_that_text(text: str) -> None:
    assert tomllib.loads(f"value = {quote_toml(text)}") == {"value": text}


@given(st.lists(TEXTS.filter(is_flag), min_size=1, max_size=4))
def test_flags_are_one_line_and_no_keyword(flags: list[str]) -> None:
    quoted = quote_flags(flags)
    assert "\n" not in quoted
    assert quoted.startswith('"SHELL:')


@given(TEXTS.filter(is_path))
def test_a_path_that_may_be_declared_can_be_written(text: str) -> None:
    assert "\n" not in quote_path(parse_compiled_path(text))


@given(specs(), ENVIRONMENTS, DIGESTS)
def test_every_declared_backend_is_planned_or_excluded(
    spec: BuildSpec, environment: BuildEnvironment, digest: str
) -> None:
    plan = plan_build(spec, environment, digest)
    told = {str(backend) for backend in plan.backends}
    for exclusion in plan.excluded:  # under the backend's name, or under that of one of its variants
        is_variant = exclusion.subject.startswith("torch")
        told.add(str(parse_variant(exclusion.subject).backend) if is_variant else exclusion.subject)
    assert {str(backend) for backend in spec.general.backends} <= told
    for exclusion in plan.excluded:
        assert exclusion.reason
        assert "\n" not in exclusion.reason


@given(specs(), ENVIRONMENTS, DIGESTS)
def test_variants_are_named_once(spec: BuildSpec, environment: BuildEnvironment, digest: str) -> None:
    plan = plan_build(spec, environment, digest)
    ids = [variant.unique_id for variant in plan.variants]
    assert len(set(ids)) == len(ids)
    assert all(unique_id.isidentifier() for unique_id in ids)
    assert len({(variant.kernel_name, str(variant.variant)) for variant in plan.variants}) == len(ids)
    for variant in plan.variants:
        assert parse_variant(str(variant.variant)) == variant.variant


@given(specs(), ENVIRONMENTS, DIGESTS, st.randoms())
def test_a_plan_does_not_depend_on_the_order_of_a_file(
    spec: BuildSpec, environment: BuildEnvironment, digest: str, order: random.Random
) -> None:
    shuffled = dataclasses.replace(
        spec,
        general=dataclasses.replace(
            spec.general, backends=tuple(order.sample(spec.general.backends, len(spec.general.backends)))
        ),
        components=tuple(order.sample(spec.components, len(spec.components))),
        faces=tuple(order.sample(spec.faces, len(spec.faces))),
    )
    plan, other = plan_build(spec, environment, digest), plan_build(shuffled, environment, digest)
    assert plan.variants == other.variants
    assert plan.excluded == other.excluded
    for toolchain in plan.toolchains:
        assert dict(render_project(plan, toolchain)) == dict(render_project(other, toolchain))


@given(specs(), ENVIRONMENTS, DIGESTS)
def test_a_project_is_complete_and_the_same_each_time(
    spec: BuildSpec, environment: BuildEnvironment, digest: str
) -> None:
    plan = plan_build(spec, environment, digest)
    for toolchain in plan.toolchains:
        files = render_project(plan, toolchain)
        assert dict(files) == dict(render_project(plan_build(spec, environment, digest), toolchain))
        assert {PurePosixPath("CMakeLists.txt"), PurePosixPath("pyproject.toml")} <= set(files)
        for variant in plan.variants:
            if variant.toolchain == toolchain:
                assert variant.unique_id in files[PurePosixPath("ops", variant.unique_id, "_ops.py")].decode()
        for path, content in files.items():
            text = content.decode()
            assert "\r" not in text
            assert text.endswith("\n")
            if not any("{" in flag for component in spec.components for flag in component.cxx_flags):
                assert "{{" not in text, path
                assert "{%" not in text, path


@given(
    st.sets(st.sampled_from(["7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "9.0a", "10.0", "10.0f", "12.0"]), min_size=1)
)
def test_chosen_capabilities_were_asked_for(asked: set[str]) -> None:
    available = default_archs(Backend.CUDA, MinorVersion(13, 0))
    chosen = intersect_cuda(asked, available)
    assert set(chosen) <= asked
    assert json.dumps(chosen) == json.dumps(intersect_cuda(sorted(asked, reverse=True), available))
    for plain in {arch for arch in asked if arch in available}:
        assert plain in chosen or any(arch[:-1] == plain for arch in chosen)
