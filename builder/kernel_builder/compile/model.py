"""What compiling gives: a tree of files for each variant, and how long each file took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernel_builder.plan import VariantPlan


@dataclass(frozen=True, slots=True)
class FileTiming:
    """One step of ninja: what it made, named after its source where it has one, and for how long."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CompiledTree:
    """What one backend's project installed, below `root` as `<kernel name>/<variant>/`.

    timings: the steps that were run this time, longest first; empty when nothing had changed. flags: unique id ->
    the distinct compiler flags of its sources, without paths. log: all that the tools said.
    """

    root: Path
    log: Path
    seconds: float
    timings: tuple[FileTiming, ...] = ()
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def directory(self, variant: VariantPlan) -> Path:
        """Where the files of one variant lie."""
        return self.root / variant.kernel_name / str(variant.variant)
