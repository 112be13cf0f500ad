"""Plan for a machine that is not here: what it would offer, as the user says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.host import HostPlatform
from kernel_builder.plan.model import BuildEnvironment
from kernel_builder.version import MinorVersion

_TOOLKITS = tuple(backend for backend, facts in FACTS.items() if facts.is_compiled and facts.versioned)
_NAMES = ("host", "torch", "tvm-ffi", *(str(backend) for backend in _TOOLKITS))


def assume_environment(environment: BuildEnvironment, assumptions: Iterable[str]) -> BuildEnvironment:
    """The environment with words such as `torch=2.13`, `cuda=13.0` and `host=aarch64-darwin` laid over it.

    An assumed torch is taken to be built for every backend, with the C++11 strings that it has on Linux. Raises
    `BadInputError` with every word that cannot be used.
    """
    problems = []
    for assumption in assumptions:
        name, _, value = assumption.partition("=")
        try:
            environment = _assume(environment, name, value)
        except ValueError as error:
            problems.append(Problem(f"cannot assume `{assumption}`: {error}", hint="for example `--assume cuda=13.0`"))
    if problems:
        raise BadInputError(problems)
    return environment


def _assume(environment: BuildEnvironment, name: str, value: str) -> BuildEnvironment:
    match name:
        case "host":
            return replace(environment, host=HostPlatform.parse(value))
        case "torch":
            return replace(environment, torch=MinorVersion.parse(value), torch_cxx11=True, torch_backends=None)
        case "tvm-ffi":
            return replace(environment, tvm_ffi=MinorVersion.parse(value))
        case _ if name in _NAMES:
            return replace(environment, toolkits={**environment.toolkits, Backend(name): MinorVersion.parse(value)})
        case _:
            raise ValueError(f"the name is one of {', '.join(f'`{name}`' for name in _NAMES)}")
