"""The record of a test run inside the artifact that was tested; it holds for these very files only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from kernel_builder.artifact.digest import compute_digest
from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import METADATA_FILE, Artifact
from kernel_builder.artifact.pack import open_staging
from kernel_builder.errors import AuditError, Problem
from kernel_builder.host import probe_host
from kernel_builder.progress import ignore_progress
from kernel_builder.testing.suite import LoadedChoice, SuiteOutcome


def digest_artifact(artifact: Artifact) -> str:
    """One hex sha256 over the names and contents of an artifact's files as they are on disk now."""
    files = json.dumps(dict(sorted(compute_digest(artifact.path).files.items())), separators=(",", ":"))
    return hashlib.sha256(files.encode()).hexdigest()


def describe_outcome(artifact: Artifact, choice: LoadedChoice, outcome: SuiteOutcome) -> dict[str, Any]:
    """The outcome as it is recorded: verdict, counts, where it ran, and the digest of what was tested."""
    return {
        "passed": outcome.exit_code == 0,
        "counts": {name: number for name, number in outcome.counts.items() if number},
        "arguments": list(outcome.arguments),
        "places": list(outcome.places),
        "artifact": digest_artifact(artifact),
        "host": str(probe_host()),
        "cpu-capability": choice.cpu_capability,
        "python": choice.python,
        "torch": choice.torch,
        "kernels": choice.kernels,
    }


def record_outcome(artifact: Artifact, choice: LoadedChoice, outcome: SuiteOutcome) -> Artifact:
    """Write the outcome into the artifact's metadata, which no digest covers, in one atomic step.

    An artifact of another builder is left as it is. Raises `AuditError` when the files are not those that the
    metadata lists: then nobody knows what was tested.
    """
    metadata = artifact.metadata
    if metadata.record is None:
        return artifact
    if metadata.digest is None or compute_digest(artifact.path, metadata.digest.algorithm) != metadata.digest:
        raise AuditError(
            Problem(f"the files in `{artifact.path}` are not those that were built", hint="build the artifact again")
        )
    tests = describe_outcome(artifact, choice, outcome)
    changed = replace(metadata, record=replace(metadata.record, tests=tests))
    with open_staging(artifact.path.parent, ignore_progress) as staging:
        draft = staging / METADATA_FILE
        draft.write_bytes(format_metadata(changed))
        draft.chmod(0o644)
        draft.replace(artifact.path / METADATA_FILE)
    return replace(artifact, metadata=changed)
