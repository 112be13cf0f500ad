from __future__ import annotations

import pytest

from kernel_builder.variant import parse_variant


@pytest.mark.parametrize(
    "name",
    [
        "torch-cpu",
        "torch-npu",
        "torch213-cxx11-cpu-x86_64-linux",
        "torch210-metal-aarch64-darwin",
        "torch-stable-abi210-cu130-x86_64-linux",
        "tvm-ffi01-xpu20253-x86_64-linux",
    ],
)
def test_a_name_is_read_as_it_is_written(name: str) -> None:
    assert str(parse_variant(name)) == name


@pytest.mark.parametrize("name", ["", "build", "torch", "torch-gpu", "torch213-cxx11-cpu", "torch2-cpu-x86_64-linux"])
def test_what_is_no_variant(name: str) -> None:
    with pytest.raises(ValueError, match=r"names the unknown backend|is not a variant name|is too short"):
        parse_variant(name)


def test_the_name_that_loaders_took_once_is_called_old() -> None:
    with pytest.raises(ValueError, match="is an old name"):
        parse_variant("torch-universal")
