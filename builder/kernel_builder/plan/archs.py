"""Which device archs a component is compiled for: what it asks for, held against what a toolkit can do."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources

from kernel_builder.backend import Backend
from kernel_builder.version import MinorVersion

_PTX = "+PTX"
_CAPABILITY = re.compile(r"(\d+)\.(\d+)([af]?)")
_GFX = re.compile(r"gfx(\d+)([0-9a-f]{2})(.*)")


def default_archs(backend: Backend, toolkit: MinorVersion | None) -> tuple[str, ...]:
    """The archs for components that do not choose; empty for backends that have none, or for a toolkit too old."""
    for since, archs in _load_defaults().get(backend, ()):
        if toolkit is not None and toolkit >= since:
            return archs
    return ()


def intersect_cuda(asked: Iterable[str], available: Iterable[str]) -> tuple[str, ...]:
    """The capabilities to compile for, sorted: the "loose intersection" that kernel projects are written for.

    For each available capability it is the highest asked one that is not above it and, since device code runs on
    newer GPUs of the same generation only, has the same major version; one with `+PTX` may have a lower one. An
    asked capability for exactly one device or family (`9.0a`, `10.0f`) is taken when its plain form is available,
    whose place it takes. `+PTX` stays where it was asked for. Nothing below the lowest available one is taken, since
    the toolkit has given it up.
    """
    ptx = {arch.removesuffix(_PTX) for arch in asked if arch.endswith(_PTX)}
    wanted = {arch.removesuffix(_PTX) for arch in asked}
    targets = {arch.removesuffix(_PTX) for arch in available}
    lowest = min(map(_rank, targets), default=(0, 0, ""))
    plain = {arch for arch in wanted if not arch.endswith(("a", "f")) and _rank(arch) >= lowest}
    exact = {arch for arch in wanted if arch.endswith(("a", "f")) and not targets.isdisjoint({arch, arch[:-1]})}
    chosen = set(exact)
    for target in targets - exact - {arch[:-1] for arch in exact}:
        below = [
            arch
            for arch in plain
            if _rank(arch) <= _rank(target) and (arch in ptx or _rank(arch)[0] == _rank(target)[0])
        ]
        if below:
            chosen.add(max(below, key=_rank))
    return sort_archs(arch + _PTX if arch in ptx else arch for arch in chosen)


def restrict_archs(available: Iterable[str], chosen: Iterable[str]) -> tuple[str, ...]:
    """Of the archs that a toolkit stands for those that were chosen, as they were chosen: `9.0a` in place of `9.0`."""
    plain = {arch.removesuffix(_PTX) for arch in available}
    names = ((arch, arch.removesuffix(_PTX).partition(":")[0]) for arch in chosen)
    return sort_archs(arch for arch, name in names if name in plain or (name[-1] in "af" and name[:-1] in plain))


def intersect_rocm(asked: Iterable[str], available: Iterable[str]) -> tuple[str, ...]:
    """The ROCm targets to compile for, sorted: those asked for, with or without feature flags, that are available."""
    names = set(available)
    return sort_archs({arch for arch in asked if arch.partition(":")[0] in names})


def sort_archs(archs: Iterable[str]) -> tuple[str, ...]:
    """Oldest device first, each once; one with `+PTX` stands for the plain one, which it includes."""
    distinct = set(archs)
    covered = {arch.removesuffix(_PTX) for arch in distinct if arch.endswith(_PTX)}
    return tuple(sorted(distinct - covered, key=lambda arch: (_rank(arch), arch)))


def _rank(arch: str) -> tuple[int, int, str]:
    """`9.0a` is (9, 0, "a"); `gfx90a` is (9, 0x0a, "")."""
    capability = _CAPABILITY.match(arch)
    if capability is not None:
        return int(capability[1]), int(capability[2]), capability[3]
    gfx = _GFX.match(arch)
    return (0, 0, arch) if gfx is None else (int(gfx[1]), int(gfx[2], 16), gfx[3])


@cache
def _load_defaults() -> dict[Backend, tuple[tuple[MinorVersion, tuple[str, ...]], ...]]:
    text = (resources.files("kernel_builder.plan") / "archs.toml").read_text(encoding="utf-8")
    return {
        Backend(name): tuple((MinorVersion.parse(row["toolkit"]), tuple(row["archs"])) for row in rows)
        for name, rows in tomllib.loads(text).items()
    }
