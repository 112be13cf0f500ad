"""The release contract: within one major version a release offers all that the one before it offered. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernel_builder.errors import Problem, UploadError
from kernel_builder.release.model import Holding
from kernel_builder.variant import ArchVariant, TorchAbi, TorchStableAbi, Variant, parse_variant

_SHOWN = 4
_SCHEMA = re.compile(r"(?P<name>[\w.]+)\((?P<arguments>.*)\) ?-> ?(?P<result>.*)")


@dataclass(frozen=True, slots=True, order=True)
class Loss:
    """Something that users of a variant have now and would not have any more."""

    kind: str
    subject: str
    variant: str


def list_losses(held: Iterable[Holding], offered: Iterable[Holding]) -> tuple[Loss, ...]:
    """What users of `held` lose when the branch holds `offered` in its place, sorted.

    A variant is not lost when another one serves every system that it served; its users are then compared with that.
    """
    losses: set[Loss] = set()
    successors = {holding.variant: holding for holding in offered}
    for old in held:
        new = successors.get(old.variant) or _find_cover(old.variant, successors)
        if new is None:
            losses.add(Loss("variant", old.variant, old.variant))
        else:
            losses.update(_compare(old, new))
    return tuple(sorted(losses))


def demand_contract(losses: Sequence[Loss], version: int, held_by: str) -> None:
    """Raise `UploadError` with every loss, unless the version is 0, which promises nothing.

    held_by: the branch with the present release.
    """
    if not losses or version == 0:
        return
    grouped: dict[tuple[str, str], list[str]] = {}
    for loss in losses:
        grouped.setdefault((loss.kind, loss.subject), []).append(loss.variant)
    hint = f"raise `version` in `build.toml` to {version + 1} to publish without it"
    problems = [
        Problem(_describe(kind, subject, variants, held_by), hint=hint)
        for (kind, subject), variants in sorted(grouped.items())
    ]
    keep = "`--keep` leaves variants that were not built here as they are"
    problems = [
        Problem(problem.message, hint=f"{problem.hint}; {keep}") if kind == "variant" else problem
        for problem, (kind, _) in zip(problems, sorted(grouped), strict=True)
    ]
    raise UploadError(problems)


def describe_loss(loss: Loss) -> str:
    """One loss in words."""
    return _describe(loss.kind, loss.subject, [loss.variant], "the branch")


def is_compatible(old: str, new: str) -> bool:
    """Whether every call that an op's old schema took, its new schema takes too, with the same result."""
    before, after = _SCHEMA.fullmatch(old), _SCHEMA.fullmatch(new)
    if before is None or after is None:
        return old == new
    if (before["name"], before["result"]) != (after["name"], after["result"]):
        return False
    arguments, more = _split_arguments(before["arguments"]), _split_arguments(after["arguments"])
    kept, added = more[: len(arguments)], more[len(arguments) :]
    return kept == arguments and all("=" in argument or argument == "*" for argument in added)


def _describe(kind: str, subject: str, variants: Sequence[str], held_by: str) -> str:
    if kind == "variant":
        return f"the variant `{subject}` on `{held_by}` is not in this release"
    shown = ", ".join(f"`{variant}`" for variant in variants[:_SHOWN])
    more = f" and {len(variants) - _SHOWN} more" if len(variants) > _SHOWN else ""
    return f"the {kind} `{subject}` on `{held_by}` is not in this release: {shown}{more}"


def _compare(old: Holding, new: Holding) -> Iterator[Loss]:
    for name in set(old.interface.names) - set(new.interface.names):
        yield Loss("public name", name, old.variant)
    for schema in old.interface.ops:
        if not any(is_compatible(schema, other) for other in new.interface.ops):
            yield Loss("op", schema, old.variant)
    for arch in set(old.metadata.archs or ()) - set(new.metadata.archs or ()):
        yield Loss("device architecture", arch, old.variant)
    before, after = (holding.metadata.record for holding in (old, new))
    if before is not None:
        for capability in set(before.capabilities) - set(() if after is None else after.capabilities):
            yield Loss("capability", capability, old.variant)


def _find_cover(name: str, offered: Mapping[str, Holding]) -> Holding | None:
    """The variant that serves every system which the named one served, if there is one."""
    try:
        variant = parse_variant(name)
    except ValueError:
        return None  # no loader takes it, so that nobody loses it; but nobody can tell what it was either
    return next((holding for other, holding in sorted(offered.items()) if _covers(parse_variant(other), variant)), None)


def _covers(new: Variant, old: Variant) -> bool:
    """A binary in the stable ABI serves all that one in the same or a later release's ABI served on that platform."""
    if not isinstance(new, ArchVariant) or not isinstance(old, ArchVariant):
        return False
    if (new.backend, new.backend_version, new.host) != (old.backend, old.backend_version, old.host):
        return False
    if not isinstance(new.abi, TorchStableAbi) or not isinstance(old.abi, TorchAbi | TorchStableAbi):
        return False
    return new.abi.version <= old.abi.version


def _split_arguments(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
