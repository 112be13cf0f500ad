"""Plan for a machine that is not here: what it would offer, as the user says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.host import HostPlatform
from kernel_builder.plan.matrix import Matrix, load_matrix
from kernel_builder.plan.model import BuildEnvironment, ToolchainKey, ToolchainOffer
from kernel_builder.version import MinorVersion

_TOOLKITS = tuple(backend for backend, facts in FACTS.items() if facts.is_compiled and facts.versioned)
_UNVERSIONED = (Backend.CPU, Backend.METAL)
_NAMES = ("host", "torch", "tvm-ffi", *(str(backend) for backend in _TOOLKITS))


def assume_environment(
    environment: BuildEnvironment, assumptions: Iterable[str], matrix: Matrix | None = None
) -> BuildEnvironment:
    """The environment with words such as `torch=2.13`, `cuda=13.0` and `host=aarch64-darwin` laid over it.

    An assumed torch is taken to be built for every backend. A name may come several times, for several releases or
    toolkits. matrix: what is known about releases, by default the shipped one. Raises `BadInputError` with every word
    that cannot be used.
    """
    matrix = matrix or load_matrix()
    given: set[str] = set()
    problems = []
    for assumption in assumptions:
        name, _, value = assumption.partition("=")
        try:
            environment = _assume(environment, name, value, matrix, given)
            given.add(name)
        except ValueError as error:
            problems.append(Problem(f"cannot assume `{assumption}`: {error}", hint="for example `--assume cuda=13.0`"))
    if problems:
        raise BadInputError(problems)
    return environment


def _assume(environment: BuildEnvironment, name: str, value: str, matrix: Matrix, given: set[str]) -> BuildEnvironment:
    """Lay one word over the environment. given: the names that came before, to which another value is added."""
    match name:
        case "host":
            # A compiler for the host itself is a part of what is assumed.
            offers = tuple(ToolchainOffer(ToolchainKey(backend)) for backend in _UNVERSIONED)
            kept = tuple(offer for offer in environment.offers if offer.key.backend not in _UNVERSIONED)
            return replace(environment, host=HostPlatform.parse(value), offers=(*offers, *kept))
        case "torch":
            torch = replace(matrix.describe(MinorVersion.parse(value)), builds=None)
            earlier = environment.torches if name in given else ()
            return replace(environment, torches=(*(each for each in earlier if each != torch), torch))
        case "tvm-ffi":
            return replace(environment, tvm_ffi=MinorVersion.parse(value))
        case _ if name in _NAMES:
            backend = Backend(name)
            offer = ToolchainOffer(ToolchainKey(backend, MinorVersion.parse(value)))
            earlier_offers = (
                each
                for each in environment.offers
                if each.key.backend is not backend or (name in given and each != offer)
            )
            return replace(environment, offers=(*earlier_offers, offer))
        case _:
            raise ValueError(f"the name is one of {', '.join(f'`{name}`' for name in _NAMES)}")
