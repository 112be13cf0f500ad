"""What a repository's README says of it in its first lines: the metadata that lists and searches show."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.objects import Tree
from kernel_builder.serve.storage import Storage

README = "README.md"
MAX_README = 1 << 20
_FRONT = re.compile(r"\A(?:\ufeff)?---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class _Loader(yaml.SafeLoader):
    """Reads plain YAML. A few lines of aliases can stand for more values than there is memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias; whatever else there is, is the library's to read."""
        if self.check_event(yaml.AliasEvent):  # type: ignore[no-untyped-call]  # the stubs leave it bare
            raise yaml.YAMLError("aliases are not taken")
        return super().compose_node(parent, index)


_MARKED = {"license": "license", "language": "language", "base_model": "base_model", "datasets": "dataset"}


def read_card(storage: Storage, tree: Tree) -> dict[str, Any]:
    """The metadata of a revision's README; empty without one, or where that cannot be read."""
    entry = tree.entries.get(README)
    if entry is None or entry.size > MAX_README:
        return {}
    try:
        content = storage.find(entry.sha256, entry.git_oid).read_bytes()
        return parse_card(content.decode(errors="replace"))
    except (ValueError, RequestError):
        return {}


def parse_card(text: str) -> dict[str, Any]:
    """The metadata at the head of a README. Raises `ValueError`, which says what is wrong with it."""
    front = _FRONT.match(text)
    if front is None:
        return {}
    try:
        data = yaml.load(front[1], Loader=_Loader)  # noqa: S506 - it is the safe loader, with less
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"the metadata is not YAML: {' '.join(str(error).split())[:300]}") from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ValueError("the metadata must be a table of named values")
    return {key: _plain(value) for key, value in data.items()}


def _plain(value: Any) -> Any:
    """YAML knows more kinds of values than JSON."""
    match value:
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case float() if not math.isfinite(value):
            return str(value)
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)


def list_tags(card: dict[str, Any]) -> list[str]:
    """The words by which a repository with this card is found."""
    tags = [str(tag) for tag in _several(card.get("tags"))]
    tags += [str(card[key]) for key in ("library_name", "pipeline_tag") if isinstance(card.get(key), str)]
    tags += [f"{mark}:{value}" for key, mark in _MARKED.items() for value in _several(card.get(key))]
    return list(dict.fromkeys(tags))


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
