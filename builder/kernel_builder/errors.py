"""What can go wrong: a tree of errors, each with an exit code, and the problems that one error carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Process exit codes; scripts may rely on them."""

    OK = 0
    INTERNAL = 1
    BAD_INPUT = 2
    NOTHING_SELECTED = 3
    TOOLCHAIN_MISSING = 4
    COMPILE_FAILED = 5
    AUDIT_FAILED = 6
    UPLOAD_REFUSED = 7
    TESTS_FAILED = 8
    FETCH_FAILED = 9
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Location:
    """Where a problem is: a file as the user named it, a 1-based line, a dotted key path."""

    file: str
    line: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return place if self.key is None else f"{place}, at {self.key}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, what was received (inside `message`) and what to do."""

    message: str
    location: Location | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = f"error: {self.message}"
        if self.location is not None:
            text += f"\n  --> {self.location}"
        if self.hint is not None:
            text += f"\n\nhint: {self.hint}"
        return text


class BuilderError(Exception):
    """An error that the user can act on. Carries one or more problems, all reported together."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, problems: Problem | Iterable[Problem] | str, *, hint: str | None = None) -> None:
        if isinstance(problems, str):
            problems = Problem(problems, hint=hint)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n\n".join(str(problem) for problem in self.problems))


class BadInputError(BuilderError):
    """A `build.toml`, an option or a path that cannot be used as it is."""

    exit_code = ExitCode.BAD_INPUT


class NothingSelectedError(BuilderError):
    """The request is well formed, but no variant answers it."""

    exit_code = ExitCode.NOTHING_SELECTED


class ToolchainMissingError(BuilderError):
    """A compiler, a library or a tool that a variant needs is not on this machine."""

    exit_code = ExitCode.TOOLCHAIN_MISSING


class FetchError(BuilderError):
    """A package index cannot be reached, or what it sent is not what it should be."""

    exit_code = ExitCode.FETCH_FAILED


class CompileError(BuilderError):
    """Configuring, compiling or linking failed; the problem quotes the first diagnostics."""

    exit_code = ExitCode.COMPILE_FAILED


class AuditError(BuilderError):
    """An artifact does not keep what its name and metadata promise."""

    exit_code = ExitCode.AUDIT_FAILED


class UploadError(BuilderError):
    """A release that may not be published, or a Hub that did not take it."""

    exit_code = ExitCode.UPLOAD_REFUSED


class TestsFailedError(BuilderError):
    """The tests of a kernel project failed, or there were none to run."""

    __test__ = False  # the name would otherwise be collected by pytest
    exit_code = ExitCode.TESTS_FAILED


class BenchmarkError(BuilderError):
    """A benchmark of a kernel project failed or gave a wrong output, or there was none to run."""

    exit_code = ExitCode.TESTS_FAILED
