"""Stage 6: does an artifact keep what its name and its metadata promise?"""

from kernel_builder.audit.inspection import audit_artifact, audit_directory
from kernel_builder.audit.policy import Policy, load_policy
from kernel_builder.audit.report import AuditReport, Finding, Severity

__all__ = ["AuditReport", "Finding", "Policy", "Severity", "audit_artifact", "audit_directory", "load_policy"]
