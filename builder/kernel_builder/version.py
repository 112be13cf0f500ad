"""A release line of torch, CUDA, ROCm, ...: major and minor, nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, order=True)
class MinorVersion:
    """A version with exactly two numeric components, such as `2.13`."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def compact(self) -> str:
        """The form that variant names use: `213` for 2.13, `130` for 13.0."""
        return f"{self.major}{self.minor}"

    @classmethod
    def parse(cls, text: str) -> MinorVersion:
        """Read `2.13`. Raises `ValueError` unless there are exactly two numeric components."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            separators = text.count(".")
            reason = "a component is not a number" if separators == 1 else f"it has {separators + 1} components"
            raise ValueError(f"`{text}` is not a version of exactly two numeric components such as `2.13`: {reason}")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def parse_release(cls, text: str) -> MinorVersion:
        """Read the first two components of a full release, such as `2.13.0+cpu`."""
        match = re.match(r"(\d+)\.(\d+)", text.strip())
        if match is None:
            raise ValueError(f"`{text}` does not begin with a version such as `2.13.0`")
        return cls(int(match[1]), int(match[2]))
