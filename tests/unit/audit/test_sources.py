from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.audit.checks.sources import check_sources
from kernel_builder.audit.policy import load_policy
from kernel_builder.audit.subject import load_subject
from tests.unit.audit.samples import good_metadata, write_artifact


def rules_of(directory: Path, source: str, **metadata: object) -> list[str]:
    artifact = write_artifact(
        directory, variant="torch-cpu", files={"op.py": source}, metadata=good_metadata(**metadata)
    )
    return [finding.rule for finding in check_sources(load_subject(artifact), load_policy())]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\nimport torch.nn.functional as F\nfrom . import other\nfrom .sub import thing\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n",
        "try:\n    import flash_attn\nexcept ImportError:\n    flash_attn = None\n",
        "def f():\n    import numpy\n    return numpy\n",
        "import sys\nif sys.platform == 'linux':\n    import numba\n",
        "import triton\nimport triton.language as tl\n",
        "x = '\\d'\n",
        "",
    ],
)
def test_sources_that_load_anywhere_pass(tmp_path: Path, source: str) -> None:
    assert rules_of(tmp_path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import numpy\n",
        "from scipy.special import erf\n",
        "import relu\n",
        "from relu.layers import Relu\n",
        "import einops\n",
        "class A:\n    import numpy\n",
        "import sys\nif sys.platform == 'linux':\n    import numba\nelse:\n    import numba\n",
    ],
)
def test_undeclared_modules_are_told(tmp_path: Path, source: str) -> None:
    assert rules_of(tmp_path, source) == ["python-imports"]


def test_declared_modules_pass(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "import einops\n", python_depends=("einops",)) == []


@pytest.mark.parametrize(
    "source", ["def f(:\n", "\0", "x = (" + "(" * 300 + ")" * 300 + ")", "# coding: klingon\n", "1 +" * 20000 + "1"]
)
def test_sources_that_no_python_can_read_are_refused(tmp_path: Path, source: str) -> None:
    assert rules_of(tmp_path, source) == ["python-syntax"]


def test_deep_conditions_do_not_hang_the_audit(tmp_path: Path) -> None:
    nested = "".join(" " * depth + f"if x{depth}:\n" for depth in range(90)) + " " * 90 + "import numpy\n"
    chained = "if x:\n    pass\n" + "elif x:\n    pass\n" * 150
    assert rules_of(tmp_path, nested + chained) == []


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cpu")
    (artifact / "op.py").write_bytes(b"x = '\xff\xfe'\n")
    assert [f.rule for f in check_sources(load_subject(artifact), load_policy())] == ["python-syntax"]


@pytest.mark.parametrize(
    "source", ["match x:\n    case 1:\n        pass\n", "with (open('a') as a, open('b') as b): pass\n"]
)
def test_newer_syntax_is_told(tmp_path: Path, source: str) -> None:
    expected = ["python-version"] if source.startswith("match") else []  # the parser of 3.9 read the other one as well
    assert rules_of(tmp_path, source) == expected


@pytest.mark.parametrize("decorator", ["custom_op", "triton_op", "register_fake", "register_kernel", "register_vmap"])
@pytest.mark.parametrize(
    "spelling", ["torch.library.{}('myns::silu')", "{}('myns::silu')", "{}(NAME, mutates_args=())"]
)
def test_decorators_with_a_fixed_namespace_are_refused(tmp_path: Path, decorator: str, spelling: str) -> None:
    assert rules_of(tmp_path, f"@{spelling.format(decorator)}\ndef f(x): return x\n") == ["op-namespace"]


@pytest.mark.parametrize(
    "source",
    [
        "@torch.library.custom_op(add_op_namespace_prefix('silu'), mutates_args=())\ndef f(x): return x\n",
        "@register_fake(_ops.add_op_namespace_prefix('silu'))\ndef f(x): return x\n",
        "@f.register_fake\ndef _(x): return x\n",
        "torch.library.register_fake('_relu_cpu_1a2b3c4::silu', f)\n",
        "registry.register_fake('myns::silu')\n",
    ],
)
def test_registrations_under_the_own_namespace_pass(tmp_path: Path, source: str) -> None:
    assert rules_of(tmp_path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.library.register_autograd('myns::silu', f)\n",
        "torch.library.define('myns::silu', '(Tensor x) -> Tensor')\n",
        "lib = torch.library.Library('myns', 'DEF')\n",
        "def f():\n    @torch.library.custom_op('myns::silu')\n    def g(x): return x\n",
    ],
)
def test_other_fixed_namespaces_are_told(tmp_path: Path, source: str) -> None:
    assert rules_of(tmp_path, source) == ["op-literal"]
