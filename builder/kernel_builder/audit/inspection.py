"""Stage 6: Artifact -> AuditReport. All checks over one artifact, in the order of the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kernel_builder.artifact.model import Artifact
from kernel_builder.audit import importing
from kernel_builder.audit.checks import device, layout, linkage, metadata, sources, symbols
from kernel_builder.audit.policy import Policy, load_policy
from kernel_builder.audit.report import AuditReport, Finding, Severity
from kernel_builder.audit.rules import RULES, Rule
from kernel_builder.audit.subject import Subject, load_subject
from kernel_builder.errors import BadInputError, Problem


def audit_artifact(
    artifact: Artifact,
    *,
    policy: Policy | None = None,
    import_check: bool = True,
    pythons: Iterable[importing.Interpreter] = (),
) -> AuditReport:
    """Hold an artifact against a policy, by default `hub`.

    What lies on disk is judged, not what `artifact` says about it. The import runs the artifact's code, in a process
    of its own; the report says when it was not done. pythons: others than the running one, for their torch. Raises
    `BadInputError` when the directory cannot be read.
    """
    return audit_directory(artifact.path, policy=policy, import_check=import_check, pythons=pythons)


def audit_directory(
    directory: Path,
    *,
    policy: Policy | None = None,
    import_check: bool = True,
    pythons: Iterable[importing.Interpreter] = (),
) -> AuditReport:
    """Like `audit_artifact`, also for a directory that is too broken to be an `Artifact`."""
    policy = load_policy() if policy is None else policy
    try:
        subject = load_subject(directory)
    except OSError as error:
        hint = "give the directory of one variant, such as `build/torch213-cxx11-cpu-x86_64-linux`"
        raise BadInputError(Problem(f"cannot read the artifact `{directory}`: {error.strerror}", hint=hint)) from error
    findings = list(_check_files(subject, policy))
    if import_check:
        findings += importing.check_import(subject, policy, findings, others=pythons)
    else:
        findings.append(importing.tell_not_asked(subject))
    order = {severity: rank for rank, severity in enumerate(Severity)}
    return AuditReport(
        artifact=subject.name,
        policy=policy.name,
        rules=tuple(rule.name for rule in RULES if rule in _applied_rules(subject)),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.severity])),
    )


def _check_files(subject: Subject, policy: Policy) -> Iterator[Finding]:
    yield from layout.check_layout(subject)
    yield from sources.check_sources(subject, policy)
    yield from metadata.check_metadata(subject, policy)
    variant = subject.arch_variant
    if variant is None:
        return
    for library in subject.libraries:
        yield from linkage.check_format(library, variant, policy)
        if library.facts is not None:
            yield from linkage.check_linkage(library, library.facts, subject, policy)
            yield from symbols.check_symbols(str(library.path), library.facts, variant, policy)
    yield from device.check_device_code(subject, variant)


def _applied_rules(subject: Subject) -> set[Rule]:
    applied = {*layout.RULES, *sources.RULES, *metadata.RULES, *importing.RULES}
    if subject.arch_variant is not None:
        applied.update(linkage.FORMAT_RULES)
        if any(library.facts is not None for library in subject.libraries):
            applied.update(linkage.RULES, symbols.RULES)
            if device.is_readable(subject.arch_variant):
                applied.update(device.RULES)
    return applied
