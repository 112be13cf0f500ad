"""Workloads of benchmark files: found as the Hub's own runner finds them, with what else a class may declare.

Beside `setup`, `setup_X`, `benchmark_X` and `verify_X` a class may have `reference_X` and `reference_X__LABEL` (timed
beside `benchmark_X`; what they return is verified too; without any `verify_X` is timed), `flops_X` and `bytes_X` (a
number or a method), `goals_X` (label of a reference or ceiling -> the least ratio), `atol`, `rtol`, and `quick` (names
of the workloads that stand for the class).
"""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    tolerances: tuple[float, float] = (1e-2, 1e-5)
    """Absolute and relative; those of the Hub's runner where the class says nothing."""
    makes_output: bool = False
    """Whether each call sets `self.out` anew, instead of filling what the set-up made."""
    expected: object = None
    """What the output must equal; made by the first verification."""


def matches(name: str, filters: Sequence[str]) -> bool:
    """Whether a name is asked for: every filter is a pattern, or a part of the name; no filter means all."""
    return not filters or any(fnmatchcase(name.lower(), f"*{text.lower().strip('*')}*") for text in filters)


def find_workloads(
    files: Sequence[Path], kernel: object, device: str, *, filters: Sequence[str] = (), quick: bool = False
) -> list[Workload]:
    """Import the files and set up every workload that is asked for. Raises `TroubleError` with all that is wrong."""
    found: list[Workload] = []
    troubles: list[Trouble] = []
    seen: dict[str, Path] = {}
    for file in files:
        try:
            chosen = [
                (cls, method) for cls in _import_classes(file) for method in _choose_methods(cls, file, quick=quick)
            ]
        except TroubleError as error:
            troubles += error.troubles
            continue
        for cls, method in chosen:
            name = f"{cls.__name__}.{method}"
            if not matches(name, filters):
                continue
            if name in seen:
                said = f"`{name}` is in `{seen[name].name}` already: give one of the classes another name"
                troubles.append(Trouble(said, str(file), None, name))
                continue
            seen[name] = file
            try:
                found.append(_prepare(cls, method, file, kernel, device))
            except TroubleError as error:
                troubles += error.troubles
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


def _list_methods(cls: type[Any]) -> Iterator[str]:
    for attribute in dir(cls):
        name = attribute.removeprefix("benchmark_")
        if name != attribute and callable(getattr(cls, attribute)):
            yield name


def _choose_methods(cls: type[Any], file: Path, *, quick: bool) -> list[str]:
    """All, or those that the class names in `quick`, if it does."""
    names = list(_list_methods(cls))
    wanted = getattr(cls, "quick", None) if quick else None
    if wanted is None:
        return names
    if isinstance(wanted, str) or not isinstance(wanted, Collection):
        raise TroubleError(Trouble(f"`quick` of `{cls.__name__}` must be a tuple of names, got {wanted!r}", str(file)))
    unknown = [
        Trouble(f"`{cls.__name__}` has no `benchmark_{each}`, but `quick` names it", str(file))
        for each in wanted
        if each not in names
    ]
    if unknown:
        raise TroubleError(*unknown)
    return [name for name in names if name in wanted]


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
    verify = getattr(instance, f"verify_{name}", None)
    if verify is not None and len(contestants) == 1:
        contestants["verify"] = verify  # as the Hub's runner does: it is all there is to compare the time with
    workload = Workload(f"{cls.__name__}.{name}", file, instance, contestants, verify)
    workload.makes_output = instance.out is None
    workload.flops, workload.bytes = (_read_amount(workload, f"{fact}_{name}") for fact in ("flops", "bytes"))
    workload.goals = _read_goals(workload, f"goals_{name}")
    atol, rtol = workload.tolerances
    workload.tolerances = (_read_number(workload, "atol", atol), _read_number(workload, "rtol", rtol))
    return workload


def _read_amount(workload: Workload, attribute: str) -> float | None:
    """Work of one call, a number or what a method returns."""
    value = getattr(workload.instance, attribute, None)
    amount = value() if callable(value) else value
    return None if amount is None else _demand_number(workload, attribute, amount)


def _read_number(workload: Workload, attribute: str, default: float) -> float:
    return _demand_number(workload, attribute, getattr(workload.instance, attribute, default))


def _read_goals(workload: Workload, attribute: str) -> dict[str, float]:
    goals = getattr(workload.instance, attribute, {})
    if not isinstance(goals, Mapping):
        raise TroubleError(_complain(workload, f"`{attribute}` must be a `dict` from labels to ratios, got {goals!r}"))
    return {str(label): _demand_number(workload, f"{attribute}[{label!r}]", least) for label, least in goals.items()}


def _demand_number(workload: Workload, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise TroubleError(_complain(workload, f"`{name}` must be a number from 0 on, got {value!r}"))
    return number


def _complain(workload: Workload, message: str) -> Trouble:
    return Trouble(message, str(workload.file), None, workload.name)
