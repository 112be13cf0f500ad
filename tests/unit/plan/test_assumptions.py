from __future__ import annotations

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.plan import TorchBuild, assume_environment
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import LINUX, MAC, make_environment, make_torch

HERE = make_environment(make_torch("2.13", TorchBuild(Backend.CPU, None, LINUX)), cuda="12.8")


def test_what_is_said_replaces_what_is_here() -> None:
    there = assume_environment(HERE, ["host=arm64-darwin", "torch=2.10", "cuda=13.0", "xpu=2025.3", "tvm-ffi=0.1"])
    assert (there.host, there.tvm_ffi) == (MAC, MinorVersion(0, 1))
    assert there.torches == (make_torch("2.10"),)
    assert [str(offer.key) for offer in there.offers] == ["cpu", "metal", "cuda-13.0", "xpu-2025.3"]


def test_a_name_may_come_twice() -> None:
    there = assume_environment(HERE, ["torch=2.11", "cuda=12.6", "torch=2.13", "cuda=13.0", "cuda=13.0"])
    assert [str(torch.release) for torch in there.torches] == ["2.11", "2.13"]
    assert [str(offer.key) for offer in there.offers] == ["cpu", "cuda-12.6", "cuda-13.0"]


def test_saying_nothing_changes_nothing() -> None:
    assert assume_environment(HERE, []) is HERE


def test_every_wrong_word_is_told() -> None:
    words = ["gpu=1.0", "cuda", "torch=2.13.0", "host=linux", "=", "metal=1.0", ""]
    with pytest.raises(BadInputError) as caught:
        assume_environment(HERE, [*words, "cuda=12.8"])
    assert [problem.message.split("`")[1] for problem in caught.value.problems] == words
