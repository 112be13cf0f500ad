"""What the user chooses of devices and toolkits, laid over what the machine offers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.host import HostPlatform
from kernel_builder.plan.model import BuildEnvironment, ToolchainKey, ToolchainLack, ToolchainOffer
from kernel_builder.spec.archs import parse_cuda_capability, parse_rocm_arch
from kernel_builder.spec.problems import BadValueError
from kernel_builder.version import MinorVersion

_VERSIONED = tuple(backend for backend, facts in FACTS.items() if facts.is_compiled and facts.versioned)


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """What to compile for.

    archs: these alone, of those that a project asks for. toolkits: in place of those that are here. host: the platform
    that artifacts run on, None for this one.
    """

    archs: tuple[str, ...] = ()
    toolkits: tuple[ToolchainKey, ...] = ()
    host: HostPlatform | None = None


def parse_devices(archs: Iterable[str], toolkits: Iterable[str], host: str | None = None) -> DeviceChoice:
    """Read archs such as `9.0a` and `gfx942`, toolkits such as `cuda=13.2`, and a platform such as `aarch64-linux`.

    Raises `BadInputError` with every word that cannot be used.
    """
    problems: list[Problem] = []
    chosen: list[str] = []
    keys: list[ToolchainKey] = []
    for arch in archs:
        try:
            chosen.append(parse_rocm_arch(arch) if arch.startswith("gfx") else parse_cuda_capability(arch))
        except BadValueError as error:
            problems.append(Problem(f"`--arch` {error}", hint=error.hint))
    for word in toolkits:
        name, _, version = word.partition("=")
        try:
            keys.append(ToolchainKey(next(each for each in _VERSIONED if each == name), MinorVersion.parse(version)))
        except (StopIteration, ValueError):
            known = ", ".join(f"`{backend}`" for backend in _VERSIONED)
            problems.append(Problem(f"`--toolkit {word}` is not one of {known} and its version", hint="`cuda=13.2`"))
    platform = None
    try:
        platform = None if host is None else HostPlatform.parse(host)
    except ValueError as error:
        problems.append(Problem(f"`--host`: {error}"))
    if problems:
        raise BadInputError(problems)
    return DeviceChoice(tuple(chosen), tuple(keys), platform)


def choose_devices(
    environment: BuildEnvironment,
    choice: DeviceChoice,
    cross: ToolchainOffer | None = None,
    toolkits: Iterable[ToolchainOffer] = (),
) -> BuildEnvironment:
    """The environment with what was chosen; what was not stays.

    cross: what compiles for the chosen platform, where that is not this machine's; it does so for the CPU alone.
    toolkits: what is known of the chosen ones.
    """
    if cross is not None:
        reason = f"nothing on {environment.host} compiles it for {cross.key.host}; build on such a machine"
        others = (ToolchainLack(ToolchainKey(backend), reason) for backend in _VERSIONED)
        return replace(environment, offers=(cross,), lacks=tuple(others))
    offers: list[ToolchainOffer] = []
    replaced = {key.backend for key in choice.toolkits}
    for key in choice.toolkits:
        known = (offer for offer in (*environment.offers, *toolkits) if offer.key == key)
        offers.append(next(known, ToolchainOffer(key)))
    offers += [offer for offer in environment.offers if offer.key.backend not in replaced]
    unwanted = (offer.key for offer in environment.offers if offer.key.backend in replaced and offer not in offers)
    lacks = (*(ToolchainLack(key, f"{key} was not chosen") for key in unwanted), *environment.lacks)
    return replace(environment, offers=tuple(_restrict(offer, choice.archs) for offer in offers), lacks=lacks)


def _restrict(offer: ToolchainOffer, archs: tuple[str, ...]) -> ToolchainOffer:
    """Those of the chosen archs that are of the offer's backend, and that its compilers know."""
    is_rocm = offer.key.backend is Backend.ROCM
    own = tuple(arch for arch in archs if arch.startswith("gfx") == is_rocm)
    if not own or offer.key.backend not in {Backend.CUDA, Backend.ROCM}:
        return offer
    known = tuple(arch for arch in own if not offer.archs or arch.partition(":")[0] in offer.archs)
    return replace(offer, archs=known or own)
