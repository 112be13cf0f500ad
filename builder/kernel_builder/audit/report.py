"""Findings of an audit and the verdict over them, as text and as versioned JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

REPORT_SCHEMA: Final = 1


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

    def render_text(self) -> str:
        """One or two lines, readable without colour."""
        text = f"{self.severity}[{self.rule}] {self.subject}: {self.message}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit of one artifact found.

    artifact: the variant's name. policy: name of the policy that it was held to. rules: every rule that was applied,
    also the silent ones. findings: errors first.
    """

    artifact: str
    rules: tuple[str, ...]
    findings: tuple[Finding, ...]
    policy: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing forbids publishing."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    def count(self, severity: Severity) -> int:
        """The number of findings of a severity."""
        return sum(1 for finding in self.findings if finding.severity is severity)

    @property
    def verdict(self) -> str:
        """The report in one line."""
        counts = Counter(finding.severity for finding in self.findings)
        told = ", ".join(_plural(counts[severity], severity) for severity in Severity if counts[severity])
        outcome = "passed" if self.passed else "refused"
        return f"{self.artifact}: {outcome} {len(self.rules)} rules of `{self.policy}`" + (f" ({told})" if told else "")

    def render_lines(self) -> Iterator[str]:
        """The verdict, then each finding; no line has a line end."""
        yield self.verdict
        for finding in self.findings:
            yield from finding.render_text().splitlines()

    def to_json(self) -> dict[str, Any]:
        """A document that `report.schema.json` describes."""
        return {
            "schema": REPORT_SCHEMA,
            "artifact": self.artifact,
            "policy": self.policy,
            "passed": self.passed,
            "rules": list(self.rules),
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": str(finding.severity),
                    "subject": finding.subject,
                    "message": finding.message,
                    "hint": finding.hint,
                }
                for finding in self.findings
            ],
        }


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
