from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from kernel_builder.backend import Backend
from kernel_builder.spec.archs import is_known_capability, parse_cuda_capability, parse_rocm_arch
from kernel_builder.spec.names import (
    parse_branch,
    parse_compiled_backend,
    parse_compiled_path,
    parse_component_name,
    parse_cuda_flag,
    parse_dependency,
    parse_flag,
    parse_git_url,
    parse_kernel_name,
    parse_loose_version,
    parse_path,
    parse_python_extension,
    parse_repo_id,
    parse_text,
    parse_version,
)
from kernel_builder.spec.problems import BadValueError, describe, show, suggest
from kernel_builder.version import MinorVersion


@pytest.mark.parametrize("name", ["ab", "relu", "flash-attn2", "a--b", "x" * 96])
def test_kernel_names(name: str) -> None:
    assert parse_kernel_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a", "2d", "Relu", "flash_attn", "relu-", "-relu", "re lu", "rélu", "x" * 97, "ab\n"]
)
def test_what_is_no_kernel_name(name: str) -> None:
    with pytest.raises(BadValueError):
        parse_kernel_name(name)


def test_a_kernel_name_is_suggested_when_one_is_near() -> None:
    with pytest.raises(BadValueError) as caught:
        parse_kernel_name("Flash Attn_2")
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("for example `flash-attn-2`")


@pytest.mark.parametrize("name", ["relu", "_fp4quant_sm100", "moe-marlin", "fp64.emu"])
def test_component_names(name: str) -> None:
    assert parse_component_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", "c++", "a b", "a;b", "a/b", "$(x)", "${x}", "é", "x" * 97])
def test_what_is_no_component_name(name: str) -> None:
    with pytest.raises(BadValueError):
        parse_component_name(name)


@pytest.mark.parametrize("repo", ["kernels-community/relu", "a/b", "Org_1/My.Kernel-2", "_x/y_"])
def test_repo_ids(repo: str) -> None:
    assert parse_repo_id(repo) == repo


@pytest.mark.parametrize(
    "repo",
    ["", "relu", "a/b/c", "/relu", "a/", "a//b", "a/b.git", "a/-b", "a/b.", "a--b/c", "a/..", "a b/c", "a/" + "x" * 95],
)
def test_what_is_no_repo_id(repo: str) -> None:
    with pytest.raises(BadValueError):
        parse_repo_id(repo)


@pytest.mark.parametrize("branch", ["main", "v1", "ep-support", "refs/pr/3", "a.b_c", "34fa"])
def test_branches(branch: str) -> None:
    assert parse_branch(branch) == branch


@pytest.mark.parametrize(
    "branch", ["", "a b", "../x", "a..b", "-x", "x.lock", "a//b", "/a", "a/", "a~1", "a^", "a:b", "x@{1}", "a\\b"]
)
def test_what_is_no_branch(branch: str) -> None:
    with pytest.raises(BadValueError):
        parse_branch(branch)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/org/repo",
        "http://example.org/repo.git",
        "git://example.org/repo.git",
        "ssh://git@example.org:2222/repo.git",
        "git+https://example.org/repo.git",
        "HTTPS://example.org/repo",
        "git@github.com:org/repo.git",
        "https://[::1]/repo",
    ],
)
def test_git_urls(url: str) -> None:
    assert parse_git_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relu",
        "ftp://x.org/a",
        "file:///a",
        "https://",
        "https://a b/c",
        "git@host:/a",
        "git@host:",
        "ssh://h:99999/x",
        "http://[::1",
        "C:\\a",
    ],
)
def test_what_is_no_git_url(url: str) -> None:
    with pytest.raises(BadValueError):
        parse_git_url(url)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("relu.cu", "relu.cu"),
        ("./a//b/", "a/b"),
        ("a/../b.cu", "b.cu"),
        (".", "."),
        ("a/..", "."),
        ("a b/ü.cu", "a b/ü.cu"),
    ],
)
def test_paths(text: str, path: str) -> None:
    assert parse_path(text) == PurePosixPath(path)


@pytest.mark.parametrize(
    "text", ["", "/a", "//a", "..", "../a", "a/../../b", "a\\b", "C:a", "c:/a", "a\0b", "a\nb", "a\u202eb", "\u00a0"]
)
def test_unsafe_paths(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_path(text)


@pytest.mark.parametrize("text", ["a;b.cpp", "a|b.cpp", "x[1].cpp", "x].cpp", "$<CONFIG>/a.cpp", "../a.cpp"])
def test_paths_that_no_compiler_would_see_as_they_are(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_compiled_path(text)


def test_paths_may_have_other_signs_than_letters() -> None:
    assert parse_compiled_path("fine é ${A} #&'(1)>,.cpp") == PurePosixPath("fine é ${A} #&'(1)>,.cpp")


@pytest.mark.parametrize("text", [">", "2>&1", "&&", "|", "", "-DA=\n"])
def test_what_is_no_flag(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_flag(text)


@pytest.mark.parametrize(
    "text", ["-DX=$(touch x)", "-DX=`touch x`", "-Xcompiler=-I;touch x", "-Xcompiler=>x", "-DX=a&b"]
)
def test_what_the_shell_behind_nvcc_would_act_on(text: str) -> None:
    with pytest.raises(BadValueError, match="the shell that nvcc starts"):
        parse_cuda_flag(text)


@pytest.mark.parametrize(
    "text", ["-Xcompiler=-O3,-fopenmp", "--generate-code=arch=compute_80,code=[sm_80]", '-DX="a b"']
)
def test_flags_that_nvcc_takes(text: str) -> None:
    assert parse_cuda_flag(text) == text


def test_flags_may_have_operators_inside() -> None:
    assert parse_flag("-DA=>&&|") == "-DA=>&&|"


@pytest.mark.parametrize(("text", "version"), [("2.13", (2, 13)), (" 12.0 ", (12, 0))])
def test_versions(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == MinorVersion(*version)


@pytest.mark.parametrize("text", ["", "2", "2.9.1", "v2.9", "2.", "2.09", "\u0662.1", "2.9.", "1" * 5000 + ".0"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_version(text)


@pytest.mark.parametrize(
    ("text", "version"), [("2", (2, 0)), ("2.9", (2, 9)), ("2.9.1", (2, 9)), ("12.0.0.0", (12, 0))]
)
def test_versions_of_older_editions(text: str, version: tuple[int, int]) -> None:
    assert parse_loose_version(text) == MinorVersion(*version)


@pytest.mark.parametrize("text", ["", "two", "2.x", "2.9rc1", "-1", "1" * 5000])
def test_what_is_no_version_in_any_edition(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_loose_version(text)


@pytest.mark.parametrize("text", ["8.0", "9.0a", "10.0f", "12.1", "9.0+PTX", "9.0a+PTX", "5.0", "11.8"])
def test_cuda_capabilities(text: str) -> None:
    assert parse_cuda_capability(text) == text
    assert is_known_capability(text) == (text != "11.8")


@pytest.mark.parametrize(
    "text", ["", "banana", "80", "sm_80", "8", "99999.0", "1.0", "8.00", "8.0b", "8.0+ptx", " 8.0", "\u0668.0"]
)
def test_what_is_no_cuda_capability(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_cuda_capability(text)


@pytest.mark.parametrize("text", ["gfx906", "gfx90a", "gfx942:xnack-", "gfx90a:sramecc+:xnack-", "gfx11-generic"])
def test_rocm_archs(text: str) -> None:
    assert parse_rocm_arch(text) == text


@pytest.mark.parametrize("text", ["", "942", "gfx", "gfx99999", "GFX942", "gfx942:", "gfx942:xnack", "gfx942:fast+"])
def test_what_is_no_rocm_arch(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_rocm_arch(text)


def test_python_extensions_lose_their_dot() -> None:
    assert [parse_python_extension(text) for text in ("py", ".json", "tar.gz")] == ["py", "json", "tar.gz"]
    for text in ("", ".", "a/b", "*", "*.py", "py ", "..py"):
        with pytest.raises(BadValueError):
            parse_python_extension(text)


def test_words_are_chosen_from_a_list() -> None:
    assert parse_compiled_backend("xpu") is Backend.XPU
    for parse, text in (
        (parse_compiled_backend, "tpu"),
        (parse_dependency, "oneapi"),
        (parse_text, " "),
        (parse_text, "a\rb"),
    ):
        with pytest.raises(BadValueError):
            parse(text)


def test_what_is_shown_is_short_and_printable() -> None:
    assert show("a\x1b[31m\U000e0001") == "a\\u001b[31m\\U000e0001"
    assert show("x" * 500) == "x" * 80 + "..."
    assert describe("") == "an empty string"
    assert describe(True) == "the boolean `true`"  # noqa: FBT003 - it is the value
    assert describe(10**100) == "a very large integer"
    assert describe([]) == "an empty array"


def test_suggestions() -> None:
    assert suggest("python_depends", ["python-depends", "name"]) == "python-depends"
    assert suggest("licence", ["license"]) == "license"
    assert suggest("zzz", ["license"]) is None
    assert suggest("x" * 100_000, ["license"]) is None
