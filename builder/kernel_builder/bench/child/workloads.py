"""Workloads of benchmark files: found as the Hub's own runner finds them, with what else a class may declare.

Beside `setup`, `setup_X`, `benchmark_X` and `verify_X` a class may have `reference_X` and `reference_X__LABEL` (timed
beside `benchmark_X`; what they return is verified too), `flops_X` and `bytes_X` (a number or a method), `goals_X`
(label of a reference or ceiling -> the least ratio), `atol`, `rtol`, and `quick` (names of the workloads that stand
for the class).
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from kernels.benchmark import Benchmark

from kernel_builder.bench.child.problem import Trouble, TroubleError, explain

KERNEL = "kernel"
"""The label of `benchmark_X` among what takes turns in a workload."""


@dataclass(slots=True)
class Workload:
    """One `benchmark_X` of one class. `contestants`: label -> what is timed, the kernel first."""

    name: str
    file: Path
    instance: Any
    contestants: dict[str, Callable[[], object]]
    verify: Callable[[], object] | None
    flops: float | None = None
    bytes: float | None = None
    goals: Mapping[str, float] = field(default_factory=dict)
    expected: object = None
    """What the output must equal; made by the first verification."""

    @property
    def tolerances(self) -> tuple[float, float]:
        """Absolute and relative; without a word from the class those of the Hub's runner."""
        return float(getattr(self.instance, "atol", 1e-2)), float(getattr(self.instance, "rtol", 1e-5))


def matches(name: str, filters: Sequence[str]) -> bool:
    """Whether a name is asked for: every filter is a pattern, or a part of the name; no filter means all."""
    return not filters or any(fnmatchcase(name.lower(), f"*{text.lower().strip('*')}*") for text in filters)


def find_workloads(
    files: Sequence[Path], kernel: object, device: str, *, filters: Sequence[str] = (), quick: bool = False
) -> list[Workload]:
    """Import the files and set up every workload that is asked for. Raises `TroubleError` with all that is wrong."""
    found: list[Workload] = []
    troubles: list[Trouble] = []
    for file in files:
        try:
            classes = _import_classes(file)
        except TroubleError as error:
            troubles += error.troubles
            continue
        for cls in classes:
            for method in _list_methods(cls, quick=quick):
                name = f"{cls.__name__}.{method}"
                if not matches(name, filters):
                    continue
                try:
                    found.append(_prepare(cls, method, file, kernel, device))
                except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an author's code raises
                    troubles.append(explain(error, f"the set-up of `{name}`", file, name))
    if troubles:
        raise TroubleError(*troubles)
    return found


def _import_classes(file: Path) -> list[type[Any]]:
    name = f"benchmark_module_{file.stem}"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise TroubleError(Trouble("cannot be imported", str(file)))
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))  # as for a script: what lies beside it can be imported
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise TroubleError(explain(error, "importing the file", file)) from error
    finally:
        sys.path.remove(str(file.parent))
    classes = [
        value
        for value in (getattr(module, attribute) for attribute in dir(module))
        if isinstance(value, type) and issubclass(value, Benchmark) and value.__module__ == name
    ]
    if not classes:
        raise TroubleError(Trouble("has no subclass of `kernels.benchmark.Benchmark`", str(file)))
    empty = [cls.__name__ for cls in classes if not any(_list_methods(cls))]
    if empty:
        raise TroubleError(*(Trouble(f"`{each}` has no method `benchmark_...`", str(file)) for each in empty))
    return classes


def _list_methods(cls: type[Any], *, quick: bool = False) -> Iterator[str]:
    wanted = getattr(cls, "quick", None) if quick else None
    for attribute in dir(cls):
        name = attribute.removeprefix("benchmark_")
        if name != attribute and callable(getattr(cls, attribute)) and (wanted is None or name in wanted):
            yield name


def _prepare(cls: type[Any], name: str, file: Path, kernel: object, device: str) -> Workload:
    instance = cls()
    instance.kernel = kernel
    instance.device = device
    if instance.seed is not None:
        torch.manual_seed(instance.seed)
        random.seed(instance.seed)
    getattr(instance, f"setup_{name}", instance.setup)()
    contestants: dict[str, Callable[[], object]] = {KERNEL: getattr(instance, f"benchmark_{name}")}
    for attribute in dir(instance):
        if attribute == f"reference_{name}":
            contestants["reference"] = getattr(instance, attribute)
        elif attribute.startswith(f"reference_{name}__"):
            contestants[attribute.removeprefix(f"reference_{name}__")] = getattr(instance, attribute)
    return Workload(
        f"{cls.__name__}.{name}",
        file,
        instance,
        contestants,
        getattr(instance, f"verify_{name}", None),
        _evaluate(instance, f"flops_{name}"),
        _evaluate(instance, f"bytes_{name}"),
        dict(getattr(instance, f"goals_{name}", {})),
    )


def _evaluate(instance: object, attribute: str) -> float | None:
    value = getattr(instance, attribute, None)
    if callable(value):
        value = value()
    return None if value is None else float(value)
