"""Which variants of a plan the user wants: by name, by backend, by kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from kernel_builder.backend import Backend
from kernel_builder.errors import NothingSelectedError, Problem
from kernel_builder.plan.model import BuildPlan, VariantPlan
from kernel_builder.variant import Variant


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice; an empty field chooses everything. variants: globs over variant names, such as `torch213-*`."""

    variants: tuple[str, ...] = ()
    backends: tuple[Backend, ...] = ()
    kernels: tuple[str, ...] = ()

    def selects(self, variant: VariantPlan) -> bool:
        """Whether all that is chosen applies to this variant."""
        return self.fits(variant.kernel_name, variant.variant)

    def fits(self, kernel: str, variant: Variant) -> bool:
        """The same for a variant that was made already."""
        return (
            (not self.variants or any(fnmatchcase(str(variant), glob) for glob in self.variants))
            and (not self.backends or variant.backend in self.backends)
            and (not self.kernels or kernel in self.kernels)
        )

    def select(self, plan: BuildPlan) -> BuildPlan:
        """The plan with the chosen variants only.

        Raises `NothingSelectedError`, which lists what there is, when none is left.
        """
        chosen = tuple(variant for variant in plan.variants if self.selects(variant))
        if not chosen:
            raise NothingSelectedError(self._explain(plan))
        return replace(plan, variants=chosen)

    def _explain(self, plan: BuildPlan) -> Problem:
        if plan.variants:
            kernels = {variant.kernel_name for variant in plan.variants}
            listed = sorted(
                f"`{variant.variant}`" + (f" of `{variant.kernel_name}`" if len(kernels) > 1 else "")
                for variant in plan.variants
            )
            return Problem(f"no variant of `{plan.spec.general.name}` is {self}", hint=f"there is {', '.join(listed)}")
        reasons = "\n".join(f"  {exclusion.subject}: {exclusion.reason}" for exclusion in plan.excluded)
        return Problem(
            f"nothing of `{plan.spec.general.name}` can be built here" + (f":\n{reasons}" if reasons else ""),
            hint="`kernel-builder doctor` says what this machine can build",
        )

    def __str__(self) -> str:
        parts = []
        if self.variants:
            parts.append(f"named {_either(self.variants)}")
        if self.backends:
            parts.append(f"for backend {_either(self.backends)}")
        if self.kernels:
            parts.append(f"of kernel {_either(self.kernels)}")
        return " and ".join(parts) or "selected"


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(f"`{word}`" for word in words)
