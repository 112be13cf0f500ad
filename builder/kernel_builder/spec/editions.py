"""Which edition a file is written in, and what has to change for the newest one.

Edition 5 says so in `general.edition`. Editions 3 and 4 have no such key and share one grammar, with less required:
they are lifted while they are read. Earlier ones say other things in other words, and are refused with a remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernel_builder.spec.problems import ProblemCollector, describe
from kernel_builder.spec.schema import COMPILED_BACKENDS, NEWEST_EDITION, OLDEST_EDITION

_FRAMEWORKS = ("torch", "torch-noarch", "tvm-ffi")
_REMEDY = "; then write `edition = 5` in `[general]`"
_DECLARE = "declare `backends`, `version` and `license` in `[general]`"


def detect_edition(document: dict[str, Any], collector: ProblemCollector) -> int | None:
    """The edition of a file. None, with a problem noted, when it is not one that can be read."""
    general = document.get("general")
    general = general if isinstance(general, dict) else {}
    path = ("general", "edition")
    if "edition" not in general:
        changes = list(_find_relics(document, general))
        if changes:
            hint = "; ".join(changes) + _REMEDY
            collector.refuse(("general",), "the file is written in edition 1 or 2, which are not read any more", hint)
            return None
        is_fourth = {"version", "license"} <= general.keys() and any(name in document for name in _FRAMEWORKS)
        return 4 if is_fourth else OLDEST_EDITION
    edition = general["edition"]
    if not isinstance(edition, int) or isinstance(edition, bool):
        collector.refuse(path, f"`general.edition` must be an integer, got {describe(edition)}", "write `edition = 5`")
    elif edition < OLDEST_EDITION:
        changes = list(_find_relics(document, general)) or [
            "declare `backends`, `version` and `license` in `[general]`"
        ]
        collector.refuse(path, f"edition {edition} is not read any more", "; ".join(changes) + _REMEDY)
    elif edition > NEWEST_EDITION:
        message = f"{describe(edition)} is not an edition that this builder knows: the newest is {NEWEST_EDITION}"
        collector.refuse(path, message, "write `edition = 5`, or use a newer builder")
    else:
        return edition
    return None


def _find_relics(document: dict[str, Any], general: dict[str, Any]) -> Iterator[str]:
    """What only editions 1 and 2 say, each as the change that replaces it."""
    torch = document.get("torch")
    torch = torch if isinstance(torch, dict) else {}
    components = document.get("kernel")
    components = [c for c in components.values() if isinstance(c, dict)] if isinstance(components, dict) else []
    if general.get("universal") or torch.get("universal"):
        yield "replace `universal` by a table `[torch-noarch]` and list the `backends` in `[general]`"
    elif "universal" in general or "universal" in torch:
        yield "remove `universal`"
    for name in ("minver", "maxver"):
        if f"cuda-{name}" in general:
            yield f"move `general.cuda-{name}` to `{name}` in `[general.cuda]`"
    if any("language" in component for component in components):
        yield (
            "replace `language` by `backend` in each `[kernel.<name>]` (`cuda-hipify` is two components, one with "
            '`backend = "cuda"` and one with `backend = "rocm"`)'
        )
    if general and "backends" not in general and components:
        backends = {backend for component in components for backend in _backends_of(component)}
        listed = ", ".join(f'"{backend}"' for backend in sorted(backends))
        yield f"add `backends = [{listed}]`, a `version` and a `license` to `[general]`"


def _backends_of(component: dict[str, Any]) -> tuple[str, ...]:
    """What a component of edition 1 (`language`) or 2 (`backend`) was built for."""
    if component.get("language") == "cuda-hipify":
        return ("cuda", "rocm")
    name = component.get("backend", component.get("language", "cuda"))
    return (name,) if name in COMPILED_BACKENDS else ()


def tell_lifted(edition: int, document: dict[str, Any], collector: ProblemCollector) -> None:
    """Note what the author would have to change to have written the newest edition."""
    if edition == NEWEST_EDITION:
        return
    general = document["general"] if isinstance(document.get("general"), dict) else {}
    additions = ["`edition = 5`"]
    additions += ["`version = 1`"] if "version" not in general else []
    additions += ["a `license`"] if "license" not in general else []
    listed = " and ".join([", ".join(additions[:-1]), additions[-1]][len(additions) == 1 :])
    text = f"read as edition {edition}; to move to edition 5, write {listed} in `[general]`"
    if not any(name in document for name in _FRAMEWORKS):
        text += ", and an empty table `[torch-noarch]`"
    collector.notice(("general",), text)
