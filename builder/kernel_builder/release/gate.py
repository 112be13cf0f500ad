"""What a release must have behind it: an audit that passed, and a recorded run of its tests on these very files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel_builder.artifact.model import Artifact
from kernel_builder.audit import Policy, Severity, audit_artifact
from kernel_builder.errors import Location, Problem, UploadError
from kernel_builder.progress import Listener, ignore_progress, step
from kernel_builder.release.model import Evidence
from kernel_builder.testing import digest_artifact

_HARMLESS = {"-q", "-v", "-vv", "-x", "-s", "-ra", "-rA", "--quiet", "--verbose", "--exitfirst"}
_HARMLESS_STARTS = ("--junitxml=", "--junit-xml=", "--durations=", "--color=", "--tb=", "-n", "--maxprocesses=")


@dataclass(frozen=True, slots=True)
class Waiver:
    """What the publisher asked for in so many words: to publish without an audit, without tests."""

    audit: bool = False
    tests: bool = False


def judge_artifacts(
    artifacts: Sequence[Artifact],
    *,
    policy: Policy | None = None,
    waiver: Waiver | None = None,
    listener: Listener = ignore_progress,
) -> Mapping[str, Evidence]:
    """Audit every artifact and look for its test record; give what there is, by variant.

    An artifact is imported only when no test run did so already. Raises `UploadError` with everything that is missing
    and not waived.
    """
    waiver = waiver or Waiver()
    evidence: dict[str, Evidence] = {}
    problems: list[Problem] = []
    with step(listener, f"audit {artifacts[0].metadata.name}"):
        for artifact in artifacts:
            shortcoming = find_shortcoming(artifact)
            found = list(_audit(artifact, policy, import_check=shortcoming is not None))
            if not waiver.audit:
                problems += found
            if shortcoming is not None and not waiver.tests:
                problems.append(shortcoming)
            tests = (
                None if shortcoming is not None or artifact.metadata.record is None else artifact.metadata.record.tests
            )
            evidence[str(artifact.variant)] = Evidence(
                audit=None if found else "passed", tests=None if tests is None else _tell_tests(tests)
            )
    if problems:
        raise UploadError(problems)
    return evidence


def find_shortcoming(artifact: Artifact) -> Problem | None:
    """Why the artifact counts as not tested; None when its record shows a whole run that passed on these files."""
    name = f"`{artifact.metadata.name}` for `{artifact.variant}`"
    place = Location(str(artifact.path))
    record = artifact.metadata.record
    tests = None if record is None else record.tests
    hint = "`kernel-builder test` runs the tests and records it; `--allow-untested` publishes without, and says so"
    if tests is None:
        return Problem(f"{name} has no recorded test run", place, hint)
    if tests.get("passed") is not True:
        return Problem(f"the recorded test run of {name} failed", place, hint)
    if tests.get("artifact") != digest_artifact(artifact):
        return Problem(f"the recorded test run of {name} was of other files", place, hint)
    narrowing = [word for word in tests.get("arguments", ["?"]) if not _is_harmless(str(word))]
    narrowing += [place for place in tests.get("places", ()) if str(place).endswith(".py")]  # one file of several
    if narrowing:
        shown = " ".join(map(str, narrowing))
        return Problem(f"the recorded test run of {name} may have left tests out: it was given `{shown}`", place, hint)
    return None


def _is_harmless(word: str) -> bool:
    return word in _HARMLESS or word.startswith(_HARMLESS_STARTS)


def _audit(artifact: Artifact, policy: Policy | None, *, import_check: bool) -> Iterable[Problem]:
    report = audit_artifact(artifact, policy=policy, import_check=import_check)
    for finding in report.findings:
        if finding.severity is Severity.ERROR:
            yield Problem(
                f"{finding.message} ({finding.rule})",
                Location(f"{artifact.path}: {finding.subject}"),
                finding.hint or "`--allow-unaudited` publishes it all the same, and says so on its page",
            )


def _tell_tests(tests: Mapping[str, Any]) -> str:
    counts = tests.get("counts", {})
    told = ", ".join(f"{number} {name}" for name, number in counts.items()) if isinstance(counts, Mapping) else ""
    where = [str(tests.get("host", "")), f"torch {tests.get('torch')}", str(tests.get("cpu-capability") or "")]
    return f"{told} on {', '.join(word for word in where if word)}"
