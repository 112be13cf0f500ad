"""Run a project's own tests against an artifact as the unmodified `kernels` loader gives it, and record the outcome."""

from __future__ import annotations

from kernel_builder.testing.record import digest_artifact, record_outcome
from kernel_builder.testing.suite import LoadedChoice, SuiteOutcome, choose_artifact, run_suite

__all__ = ["LoadedChoice", "SuiteOutcome", "choose_artifact", "digest_artifact", "record_outcome", "run_suite"]
