from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.spec.model import (
    BackendGeneral,
    BuildSpec,
    Component,
    Dependency,
    Face,
    General,
    KernelDependency,
    TorchFramework,
    TorchNoarchFramework,
    TvmFfiFramework,
)
from kernel_builder.spec.reader import LoadedSpec, read_spec
from kernel_builder.version import MinorVersion

ROOT = Path("project")
HEAD = """
[general]
name = "relu"
version = 1
edition = 5
license = "MIT"
backends = ["cpu", "cuda"]
"""


def read(text: str) -> LoadedSpec:
    return read_spec(text, root=ROOT)


def messages(text: str) -> list[str]:
    with pytest.raises(BadInputError) as caught:
        read(text)
    return [problem.message for problem in caught.value.problems]


def test_every_key_reaches_the_spec() -> None:
    text = """
[general]
name = "relu"
version = 0
edition = 5
license = "MIT"
backends = ["cuda", "rocm", "xpu", "neuron", "tpu", "cpu"]
upstream = "https://example.org/a.git"
source = "git@example.org:b/c.git"
python-depends = ["einops", "tvm-ffi"]
kernel-depends = [{ repo-id = "a/b", version = 0 }, { repo-id = "c/d", revision = "main" }]

[general.hub]
repo-id = "kernels-test/relu"
branch = "next"

[general.cuda]
minver = "12.8"
maxver = "13.0"
python-depends = ["nvidia-cutlass-dsl"]
kernel-depends = [{ repo-id = "e/f", version = 2 }]

[general.xpu]
python-depends = ["onednn"]

[general.neuron]
python-depends = ["nki"]

[general.tpu]

[torch]
src = ["torch-ext/binding.cpp"]
include = [".", "include"]
pyext = ["py", ".json"]
minver = "2.9"
maxver = "2.13"
stable-abi = { cuda = "2.10", cpu = "2.11" }
cxx-flags = ["-DX=1"]

[kernel.b]
backend = "cuda"
depends = ["torch", "cutlass_4_0", "torch"]
src = ["b.cu", "b.h"]
include = ["b"]
cxx-flags = ["-O2"]
cuda-capabilities = ["8.0", "9.0a", "8.0"]
cuda-flags = ["--threads", "4"]
cuda-minver = "12.9"

[kernel.c]
backend = "rocm"
depends = []
src = ["b.cu"]
rocm-archs = ["gfx942"]
hip-flags = ["-O3"]

[kernel.a]
backend = "xpu"
depends = ["sycl_tla"]
src = ["a.cpp"]
sycl-flags = ["-fx"]

[face.relu-six.hub]
repo-id = "kernels-test/relu-six"

[face.leaky]
"""
    relative = PurePosixPath
    expected = BuildSpec(
        root=ROOT,
        edition=5,
        general=General(
            name="relu",
            version=0,
            license="MIT",
            backends=(Backend.CUDA, Backend.ROCM, Backend.XPU, Backend.NEURON, Backend.TPU, Backend.CPU),
            upstream="https://example.org/a.git",
            source="git@example.org:b/c.git",
            python_depends=("einops", "tvm-ffi"),
            kernel_depends=(KernelDependency("a/b", version=0), KernelDependency("c/d", revision="main")),
            hub_repo_id="kernels-test/relu",
            hub_branch="next",
            per_backend={
                Backend.CUDA: BackendGeneral(
                    MinorVersion(12, 8),
                    MinorVersion(13, 0),
                    ("nvidia-cutlass-dsl",),
                    (KernelDependency("e/f", version=2),),
                ),
                Backend.XPU: BackendGeneral(python_depends=("onednn",)),
                Backend.NEURON: BackendGeneral(python_depends=("nki",)),
                Backend.TPU: BackendGeneral(),
            },
        ),
        framework=TorchFramework(
            src=(relative("torch-ext/binding.cpp"),),
            include=(relative(), relative("include")),
            pyext=("py", "json"),
            minver=MinorVersion(2, 9),
            maxver=MinorVersion(2, 13),
            stable_abi={Backend.CUDA: MinorVersion(2, 10), Backend.CPU: MinorVersion(2, 11)},
            cxx_flags=("-DX=1",),
        ),
        components=(
            Component("a", Backend.XPU, (Dependency.SYCL_TLA,), (relative("a.cpp"),), sycl_flags=("-fx",)),
            Component(
                name="b",
                backend=Backend.CUDA,
                depends=(Dependency.TORCH, Dependency.CUTLASS_4_0),
                src=(relative("b.cu"), relative("b.h")),
                include=(relative("b"),),
                cxx_flags=("-O2",),
                cuda_capabilities=("8.0", "9.0a"),
                cuda_flags=("--threads", "4"),
                cuda_minver=MinorVersion(12, 9),
            ),
            Component("c", Backend.ROCM, (), (relative("b.cu"),), rocm_archs=("gfx942",), hip_flags=("-O3",)),
        ),
        faces=(Face("leaky"), Face("relu-six", "kernels-test/relu-six")),
    )
    loaded = read(text)
    assert loaded.spec == expected
    assert loaded.notices == ()


def test_defaults() -> None:
    torch = read(HEAD + '[torch]\nsrc = ["a.cpp"]\n').spec.framework
    assert torch == TorchFramework(src=(PurePosixPath("a.cpp"),), pyext=("py", "pyi"))
    tvm = read(HEAD + '[tvm-ffi]\nsrc = ["a.cpp"]\n').spec.framework
    assert tvm == TvmFfiFramework(src=(PurePosixPath("a.cpp"),))
    assert read(HEAD + "[torch-noarch]\n[kernel]\n").spec.framework == TorchNoarchFramework()


@pytest.mark.parametrize("dash", ["-", "_"])
def test_noarch_archs_in_either_spelling(dash: str) -> None:
    text = HEAD + f'[torch-noarch]\ncuda{dash}capabilities = ["9.0"]\nrocm{dash}archs = ["gfx942"]\n'
    assert read(text).spec.framework == TorchNoarchFramework(cuda_capabilities=("9.0",), rocm_archs=("gfx942",))


def test_one_stable_abi_for_all_backends() -> None:
    framework = read(HEAD + '[torch]\nsrc = ["a.cpp"]\nstable-abi = "2.10"\n').spec.framework
    assert isinstance(framework, TorchFramework)
    assert framework.stable_abi == {Backend.CPU: MinorVersion(2, 10), Backend.CUDA: MinorVersion(2, 10)}


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    text = (
        HEAD.replace('"MIT"', "3")
        + '[torch]\nsrc = ["/a", "b.cpp"]\nwhat = 1\n[kernel.x]\nbackend = "rocm"\ndepends = []\nsrc = ["x.cu"]\n'
    )
    assert messages(text) == [
        "`general.license` must be a string, got the integer `3`",
        "`torch.src[0]` must be a relative path, got `/a`",
        "unknown key `what` in `[torch]`",
        "`kernel.x` is for `rocm`, which `general.backends` does not list",
    ]


def test_an_element_after_a_refused_one_keeps_its_line() -> None:
    text = HEAD + '[torch]\nsrc = [\n  "/a.cpp",\n  "b.cpp",\n  "b.cpp",\n]\n'
    with pytest.raises(BadInputError) as caught:
        read(text)
    assert [str(problem.location) for problem in caught.value.problems] == [
        "build.toml:10, at torch.src[0]",
        "build.toml:12, at torch.src[2]",
    ]


def test_a_flood_of_problems_is_cut_short() -> None:
    problems = messages(HEAD + "[torch]\nsrc = [" + "1, " * 5000 + "]\n")
    assert len(problems) == 101
    assert problems[-1] == "there are more than these 100 problems"


def test_rules_do_not_guess_from_what_was_refused() -> None:
    text = HEAD.replace('"cuda"]', '"cdua"]') + '[torch]\n[kernel.x]\nbackend = "cuda"\ndepends = []\nsrc = ["a.cu"]\n'
    assert messages(text) == ["`general.backends[1]` is not a backend, got `cdua`"]


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 100_000) + " = 1",
        "[" + " . ".join(["'a'"] * 100_000) + "]",
        "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q = 1",
        "a = " + "[" * 17 + "]" * 17,
    ],
)
def test_no_key_is_endless(text: str) -> None:
    assert messages(text) == ["the file nests arrays or tables more than 16 deep"]


def test_dots_elsewhere_are_welcome() -> None:
    dots = "." * 500
    text = (
        HEAD
        + f"# {dots}\n[torch]\nsrc = [{', '.join(f'{chr(34)}{n}.cpp{chr(34)}' for n in range(500))}] # {dots[:100]}\n"
    )
    assert read(text).notices == ()


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "{ a = " * 5000, ("a." * 5000) + "a = 1"])
def test_deep_nesting_is_an_error_like_any_other(text: str) -> None:
    assert messages(text)


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = 2026-02-31", "a = 0001-01-01T00:00:00+99:00", "\0", "a"])
def test_what_the_parser_chokes_on_is_a_syntax_error(text: str) -> None:
    (message,) = messages(text)
    assert message.startswith("the file is not valid TOML: ")
    assert len(message) < 200


def test_a_backend_may_do_more_than_all_do() -> None:
    own = 'capabilities = ["dropout"]\nbackend-capabilities = { cpu = ["float32", "dropout"], cuda = ["float16"] }\n'
    general = read(HEAD + own + "[torch-noarch]\n").spec.general
    assert general.capabilities_on(Backend.CPU) == ("dropout", "float32")
    assert general.capabilities_on(Backend.CUDA) == ("dropout", "float16")
    assert general.capabilities_on(Backend.ROCM) == ("dropout",)
