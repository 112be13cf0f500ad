"""A release and the repository that it goes to, as values; nothing here knows how the Hub is spoken to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kernel_builder.artifact.interface import Interface
from kernel_builder.artifact.model import Artifact, Metadata

MAIN = "main"
CARD_FILE = "README.md"
BUILD_FOLDER = "build"


class RepoType(StrEnum):
    """What kind of repository holds the release: `model` is what loaders before 0.14 read."""

    KERNEL = "kernel"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository on a Hub."""

    repo_id: str
    repo_type: RepoType = RepoType.KERNEL

    def __str__(self) -> str:
        return self.repo_id

    @property
    def owner(self) -> str:
        """The organisation or the user that it belongs to."""
        return self.repo_id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file as it will lie in a repository, with both digests that Hubs compare by; `source` has its bytes."""

    path: str
    size: int
    sha256: str
    git_oid: str
    source: Path | bytes


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as a repository has it; `sha256` is None for a file that is stored as a plain git blob."""

    path: str
    size: int
    git_oid: str
    sha256: str | None = None

    def holds(self, file: ReleaseFile) -> bool:
        """Whether it has the same content."""
        same = self.git_oid == file.git_oid if self.sha256 is None else self.sha256 == file.sha256
        return same and self.size == file.size


@dataclass(frozen=True, slots=True)
class RemoteRepo:
    """What a Hub says of a repository: branch -> commit, and the same for pull requests (`refs/pr/1`)."""

    branches: Mapping[str, str]
    pull_requests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CommitReceipt:
    """What the Hub confirmed."""

    commit: str
    url: str
    pull_request: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one artifact's quality, in words for its page.

    `audit` is None where it did not pass, `tests` where no run on exactly these files is recorded.
    """

    audit: str | None
    tests: str | None


@dataclass(frozen=True, slots=True)
class Holding:
    """One variant as somebody has it: its metadata and what its users can call."""

    variant: str
    metadata: Metadata
    interface: Interface


@dataclass(frozen=True, slots=True)
class Release:
    """All that one kernel publishes under one version; `files` are those of its artifacts, by their path there."""

    name: str
    version: int
    artifacts: tuple[Artifact, ...]
    holdings: tuple[Holding, ...]
    files: Mapping[str, ReleaseFile]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    figures: Sequence[ReleaseFile] = ()

    @property
    def branch(self) -> str:
        """The branch that loaders look for."""
        return f"v{self.version}"

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, sorted."""
        return tuple(holding.variant for holding in self.holdings)
