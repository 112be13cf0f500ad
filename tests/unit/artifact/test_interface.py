from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.artifact.interface import Interface, list_public_names, read_interface


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("__all__ = ['b', 'a']\ndef c(): ...\n", ("a", "b")),
        ("__all__ = ['a']\n__all__ += ['b']\n", ("a", "b")),
        ("__all__: list[str] = ['a']\n", ("a",)),
        ("def f(): ...\nasync def g(): ...\nclass H: ...\ndef _hidden(): ...\n", ("H", "f", "g")),
        ("x = 1\ny: int = 2\n_z = 3\n", ("x", "y")),
        ("import torch\nfrom torch import nn\nfrom .ops import relu\nfrom .ops import gelu as g\n", ("g", "relu")),
        ("from .ops import *\n", ()),
        ("def broken(:\n", ()),
        ("\0", ()),
        ("(" * 5000, ()),
    ],
)
def test_public_names(source: str, names: tuple[str, ...]) -> None:
    assert list_public_names(source) == names


def test_layers_and_ops_are_found_in_the_files(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from . import layers\n", encoding="utf-8")
    (tmp_path / "layers.py").write_text("class RMSNorm: ...\n", encoding="utf-8")
    schemas = (
        b"relu(Tensor x) -> Tensor",
        b"norm_(Tensor(a!) x, *, float eps=1e-5) -> ()",
        b"isa() -> str",
        b"pair(Tensor x, int[] n) -> (Tensor, Tensor)",
    )
    noise = (b"call(x) -> y", b"error in f(Tensor x)", b"std::vector(int) -> void", b"a -> Tensor")
    (tmp_path / "_relu.abi3.so").write_bytes(b"\x7fELF\0" + b"\0".join((*schemas, *noise)) + b"\0")
    (tmp_path / "empty.so").write_bytes(b"")
    assert read_interface(tmp_path) == Interface(
        ("layers", "layers.RMSNorm"), tuple(sorted(schema.decode() for schema in schemas))
    )


def test_a_package_one_level_deeper_is_found(tmp_path: Path) -> None:
    (tmp_path / "relu").mkdir()
    (tmp_path / "relu" / "__init__.py").write_text("def relu(): ...\n", encoding="utf-8")
    assert read_interface(tmp_path).names == ("relu",)
