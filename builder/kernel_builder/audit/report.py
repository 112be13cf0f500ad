"""Findings of an audit and the verdict over them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An `error` forbids publishing, a `warning` is told, a `note` is a fact worth reading."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact held against one rule. `rule` is a stable kebab-case name; `subject` a file or a symbol."""

    rule: str
    severity: Severity
    subject: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit of one artifact found. `rules` names every rule that was applied, also the silent ones."""

    artifact: str
    rules: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing forbids publishing."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)
