"""Does `metadata.json` say what the loader needs, and is it true?"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable, Iterator

from kernel_builder.artifact.digest import compute_digest
from kernel_builder.artifact.model import METADATA_FILE, SIGNATURE_FILE, Digest, Metadata
from kernel_builder.audit import rules
from kernel_builder.audit.policy import Policy
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Subject
from kernel_builder.backend import Backend

RULES = (
    rules.METADATA_READABLE,
    rules.METADATA_FIELDS,
    rules.METADATA_ID,
    rules.METADATA_VARIANT,
    rules.METADATA_ARCHS,
    rules.METADATA_DEPENDS,
    rules.DIGEST_PRESENT,
    rules.DIGEST_MATCH,
    rules.DIGEST_COMPLETE,
)
_ARCHS = {
    Backend.CUDA: re.compile(r"[0-9]+\.[0-9][af]?(\+PTX)?"),
    Backend.ROCM: re.compile(r"gfx[0-9a-f]+"),
}
_REBUILD = "build the artifact again, do not edit it"


def check_metadata(subject: Subject, policy: Policy) -> Iterable[Finding]:
    """The metadata, held against the directory and its files."""
    if not subject.metadata_present:
        yield rules.METADATA_READABLE.found(METADATA_FILE, f"there is no `{METADATA_FILE}`", _REBUILD)
    elif subject.metadata is None:
        yield rules.METADATA_FIELDS.found(METADATA_FILE, subject.metadata_problem or "it cannot be read", _REBUILD)
    else:
        yield from _check_id(subject.metadata, policy)
        yield from _check_variant(subject, subject.metadata)
        yield from _check_depends(subject.metadata, policy)
        yield from _check_digest(subject, subject.metadata.digest)


def _check_id(metadata: Metadata, policy: Policy) -> Iterator[Finding]:
    identifier = metadata.id
    hint = f"an id looks like `_{metadata.python_name}_{metadata.backend}_1a2b3c4`"
    if not (identifier.isidentifier() and identifier.isascii()) or keyword.iskeyword(identifier):
        yield rules.METADATA_ID.found(METADATA_FILE, f"the id `{identifier}` is not a Python identifier", hint)
    elif identifier in sys.stdlib_module_names or identifier in policy.python_modules:
        message = f"the loader registers the kernel as the module `{identifier}`, which would hide the real one"
        yield rules.METADATA_ID.found(METADATA_FILE, message, hint)


def _check_variant(subject: Subject, metadata: Metadata) -> Iterator[Finding]:
    if subject.variant is not None and metadata.backend is not subject.variant.backend:
        message = f"the metadata says `{metadata.backend}`, the directory's name says `{subject.variant.backend}`"
        yield rules.METADATA_VARIANT.found(METADATA_FILE, message, _REBUILD)
    elif metadata.record is not None and metadata.record.variant != subject.name:
        message = f"it was built as `{metadata.record.variant}`, the directory is called `{subject.name}`"
        yield rules.METADATA_VARIANT.found(METADATA_FILE, message, "give the directory its name back")
    pattern = _ARCHS.get(metadata.backend)
    for arch in metadata.archs or ():
        if pattern is not None and not pattern.fullmatch(arch):
            message = f"the loader cannot compare the arch `{arch}` with a device, so it will not protect users"
            yield rules.METADATA_ARCHS.found(METADATA_FILE, message, "such as `9.0a` for CUDA or `gfx942` for ROCm")


def _check_depends(metadata: Metadata, policy: Policy) -> Iterator[Finding]:
    for entry in metadata.python_depends:
        if policy.module_of(entry, metadata.backend) is None:
            known = ", ".join(sorted(policy.python_depends.get("general", {})))
            message = f"the loader refuses the entry `{entry}` of `python-depends` for `{metadata.backend}`"
            yield rules.METADATA_DEPENDS.found(METADATA_FILE, message, f"it knows {known} for every backend")


def _check_digest(subject: Subject, declared: Digest | None) -> Iterator[Finding]:
    if declared is None:
        message = "without a digest nobody can tell whether what loads is what was built"
        yield rules.DIGEST_PRESENT.found(METADATA_FILE, message, "build the artifact with `kernel-builder build`")
        return
    if subject.irregular:
        return  # told by another rule, and nothing that should be read through
    try:
        actual = compute_digest(subject.directory, declared.algorithm).files
    except OSError as error:
        yield rules.DIGEST_MATCH.found(subject.name, f"a file cannot be read: {error.strerror}")
        return
    for path in sorted(declared.files.keys() | actual.keys()):
        if path not in actual:
            reason = "is no file that a digest covers" if path in {METADATA_FILE, SIGNATURE_FILE} else "is not there"
            yield rules.DIGEST_COMPLETE.found(path, f"`{path}` is in the digest but {reason}", _REBUILD)
        elif path not in declared.files:
            yield rules.DIGEST_COMPLETE.found(path, f"`{path}` is not in the digest: it was added later", _REBUILD)
        elif actual[path] != declared.files[path]:
            yield rules.DIGEST_MATCH.found(path, f"`{path}` is not what was built: its hash differs", _REBUILD)
