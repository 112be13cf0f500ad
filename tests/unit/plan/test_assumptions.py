from __future__ import annotations

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform
from kernel_builder.plan import BuildEnvironment, assume_environment
from kernel_builder.version import MinorVersion

HERE = BuildEnvironment(HostPlatform("x86_64", "linux"), MinorVersion(2, 13), torch_backends=frozenset({Backend.CUDA}))


def test_what_is_said_replaces_what_is_here() -> None:
    there = assume_environment(HERE, ["host=arm64-darwin", "torch=2.10", "cuda=13.0", "xpu=2025.3", "tvm-ffi=0.1"])
    assert there == BuildEnvironment(
        HostPlatform("aarch64", "darwin"),
        MinorVersion(2, 10),
        toolkits={Backend.CUDA: MinorVersion(13, 0), Backend.XPU: MinorVersion(2025, 3)},
        tvm_ffi=MinorVersion(0, 1),
    )
    assert HERE.toolkits == {}


def test_saying_nothing_changes_nothing() -> None:
    assert assume_environment(HERE, []) is HERE


def test_every_wrong_word_is_told() -> None:
    words = ["gpu=1.0", "cuda", "torch=2.13.0", "host=linux", "=", "metal=1.0", ""]
    with pytest.raises(BadInputError) as caught:
        assume_environment(HERE, [*words, "cuda=12.8"])
    assert [problem.message.split("`")[1] for problem in caught.value.problems] == words
