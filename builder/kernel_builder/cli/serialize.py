"""Values of the straight path as JSON: dataclasses become objects with kebab-case keys, names become strings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from kernel_builder.variant import ArchVariant, NoarchVariant
from kernel_builder.version import MinorVersion

_NAMES = (ArchVariant, NoarchVariant, MinorVersion, PurePath)


def as_json(value: object) -> Any:
    """Turn a value of the vocabulary into what `json.dumps` takes. Raises `TypeError` for a type it does not know."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, (str, *_NAMES)):
        return value.as_posix() if isinstance(value, PurePath) else str(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name.replace("_", "-"): as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Iterable):
        return [as_json(item) for item in value]
    raise TypeError(f"`{type(value).__name__}` has no JSON form")
