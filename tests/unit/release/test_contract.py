from __future__ import annotations

from collections.abc import Sequence

import pytest

from kernel_builder.artifact.interface import Interface
from kernel_builder.artifact.model import BuildRecord, Metadata
from kernel_builder.backend import Backend
from kernel_builder.errors import UploadError
from kernel_builder.release.contract import Loss, demand_contract, is_compatible, list_losses
from kernel_builder.release.model import Holding

CLASSIC, STABLE = "torch213-cxx11-cpu-x86_64-linux", "torch-stable-abi210-cpu-x86_64-linux"


def hold(
    variant: str = "torch-cpu",
    names: Sequence[str] = (),
    ops: Sequence[str] = (),
    archs: Sequence[str] = (),
    capabilities: Sequence[str] = (),
) -> Holding:
    record = BuildRecord(variant, "0", "0", capabilities=tuple(capabilities))
    metadata = Metadata("relu", "_relu", 1, "MIT", Backend.CPU, archs=tuple(archs), record=record)
    return Holding(variant, metadata, Interface(tuple(names), tuple(ops)))


def test_more_is_no_loss() -> None:
    assert not list_losses([hold(names=["a"])], [hold(names=["a", "b"], ops=["f() -> ()"]), hold("torch-cuda")])


@pytest.mark.parametrize(
    ("before", "kind", "subject"),
    [
        (hold(names=["relu"]), "public name", "relu"),
        (hold(ops=["f(Tensor x) -> Tensor"]), "op", "f(Tensor x) -> Tensor"),
        (hold(archs=["8.0"]), "device architecture", "8.0"),
        (hold(capabilities=["dropout"]), "capability", "dropout"),
    ],
)
def test_what_a_variant_offered_is_missed(before: Holding, kind: str, subject: str) -> None:
    assert list_losses([before], [hold()]) == (Loss(kind, subject, "torch-cpu"),)


def test_a_variant_that_is_gone_is_lost_unless_another_serves_its_users() -> None:
    assert list_losses([hold(CLASSIC)], [hold("torch-cpu")]) == (Loss("variant", CLASSIC, CLASSIC),)
    assert not list_losses([hold(CLASSIC)], [hold(STABLE)])
    assert list_losses([hold(STABLE)], [hold(CLASSIC)])
    assert list_losses([hold("torch29-cxx11-cpu-x86_64-linux")], [hold(STABLE)]), "older than the stable ABI"
    assert list_losses([hold(CLASSIC)], [hold(STABLE.replace("x86_64", "aarch64"))])
    assert list_losses([hold("torch-universal")], [hold("torch-cpu")])


def test_users_of_a_served_variant_are_not_forgotten() -> None:
    losses = list_losses([hold(CLASSIC, names=["relu"])], [hold(STABLE)])
    assert losses == (Loss("public name", "relu", CLASSIC),)


@pytest.mark.parametrize(
    ("after", "compatible"),
    [
        ("f(Tensor x, int n) -> Tensor", True),
        ("f(Tensor x, int n, float scale=1.0) -> Tensor", True),
        ("f(Tensor x, int n, *, int[2] k=[1, 2]) -> Tensor", True),
        ("f(Tensor x, int n, float scale) -> Tensor", False),
        ("f(Tensor x) -> Tensor", False),
        ("f(Tensor? x, int n) -> Tensor", False),
        ("f(Tensor x, int n) -> (Tensor, Tensor)", False),
        ("g(Tensor x, int n) -> Tensor", False),
    ],
)
def test_op_schemas_may_grow_at_the_end(after: str, compatible: bool) -> None:
    assert is_compatible("f(Tensor x, int n) -> Tensor", after) is compatible


def test_a_refusal_lists_everything_once() -> None:
    before = [hold(variant, names=["relu"]) for variant in ("torch-cpu", "torch-cuda")] + [hold("torch-xpu")]
    losses = list_losses(before, [hold("torch-cpu"), hold("torch-cuda")])
    with pytest.raises(UploadError) as refused:
        demand_contract(losses, 3, "acme/relu@v3")
    messages = [problem.message for problem in refused.value.problems]
    assert messages == [
        "the public name `relu` on `acme/relu@v3` is not in this release: `torch-cpu`, `torch-cuda`",
        "the variant `torch-xpu` on `acme/relu@v3` is not in this release",
    ]
    hints = [str(problem.hint) for problem in refused.value.problems]
    assert all("raise `version` in `build.toml` to 4" in hint for hint in hints)
    assert "--keep" in hints[1]


def test_version_0_promises_nothing() -> None:
    demand_contract([Loss("variant", "torch-cpu", "torch-cpu")], 0, "acme/relu@v0")
