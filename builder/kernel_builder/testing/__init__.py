"""Run a project's own tests against an artifact as the unmodified `kernels` loader gives it, and record the outcome."""

from __future__ import annotations

from kernel_builder.testing.record import describe_outcome, digest_artifact, record_outcome
from kernel_builder.testing.session import TestSubject, choose_subjects
from kernel_builder.testing.suite import (
    LoadedChoice,
    SuiteOutcome,
    check_outcome,
    check_places,
    choose_artifact,
    run_suite,
)

__all__ = [
    "LoadedChoice",
    "SuiteOutcome",
    "TestSubject",
    "check_outcome",
    "check_places",
    "choose_artifact",
    "choose_subjects",
    "describe_outcome",
    "digest_artifact",
    "record_outcome",
    "run_suite",
]
