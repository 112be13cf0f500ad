"""What a rule about a BuildSpec is, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kernel_builder.spec.locate import KeyPath
from kernel_builder.spec.model import BuildSpec, TorchFramework, TorchNoarchFramework, TvmFfiFramework


@dataclass(frozen=True, slots=True)
class Remark:
    """What a rule found: an error, or a notice that stops nothing."""

    path: KeyPath
    message: str
    hint: str | None = None
    is_error: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule. It is skipped when the reader has refused something at one of the key paths that it needs."""

    name: str
    check: Callable[[BuildSpec], Iterator[Remark]]
    needs: tuple[KeyPath, ...] = ()


def framework_key(spec: BuildSpec) -> str:
    """The name of the framework's table."""
    match spec.framework:
        case TorchFramework():
            return "torch"
        case TorchNoarchFramework():
            return "torch-noarch"
        case TvmFfiFramework():
            return "tvm-ffi"
