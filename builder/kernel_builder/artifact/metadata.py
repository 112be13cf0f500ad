"""`metadata.json` <-> `Metadata`: written as the `kernels` loader expects it, read as from a stranger."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kernel_builder.artifact.fields import Fields, MalformedError
from kernel_builder.artifact.interface import Interface
from kernel_builder.artifact.model import BuildRecord, Digest, GitState, Metadata, Provenance
from kernel_builder.backend import Backend
from kernel_builder.spec.model import KernelDependency
from kernel_builder.spec.names import parse_git_url

VENDOR_KEY = "x-kernel-builder"
LARGEST_METADATA = 8 << 20
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[a-z][-a-z0-9]*[a-z0-9]")
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})")
_MINVER = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}")
_ALGORITHMS = {"sha256", "sha512"}


def format_metadata(metadata: Metadata) -> bytes:
    """Spell metadata as JSON: equal values give equal bytes; what is None is left out."""
    backend = {"type": str(metadata.backend), "archs": _listed(metadata.archs)}
    document = {
        "name": metadata.name,
        "id": metadata.id,
        "version": metadata.version,
        "license": metadata.license,
        "upstream": metadata.upstream,
        "source": metadata.source,
        "kernels-minver": metadata.kernels_minver,
        "python-depends": list(metadata.python_depends),
        "kernel-depends": [_format_dependency(depend) for depend in metadata.kernel_depends] or None,
        "backend": _without_none(backend),
        "provenance": None if metadata.provenance is None else _format_provenance(metadata.provenance),
        VENDOR_KEY: None if metadata.record is None else _format_record(metadata.record),
        "digest": None if metadata.digest is None else _format_digest(metadata.digest),
    }
    return (json.dumps(_without_none(document), indent=2, ensure_ascii=False) + "\n").encode()


def parse_metadata(text: bytes) -> Metadata:
    """Read a `metadata.json` of any builder.

    Keys that are not known are passed over, as the loader does. Raises `ValueError` that names the key and what was
    there instead.
    """
    fields = Fields(_parse_json(text))
    backend = fields.take_table("backend")
    return Metadata(
        name=fields.take_text("name", _NAME),
        id=fields.take_text("id", _IDENTIFIER),
        version=fields.take_count("version"),
        license=fields.take_text("license"),
        backend=Backend(backend.take_choice("type", set(Backend))),
        archs=backend.take_optional_texts("archs"),
        python_depends=fields.take_texts("python-depends"),
        kernel_depends=tuple(_parse_dependency(item) for item in fields.take_optional_tables("kernel-depends")),
        kernels_minver=fields.take_optional_text("kernels-minver", _MINVER),
        upstream=_parse_url(fields, "upstream"),
        source=_parse_url(fields, "source"),
        digest=_parse_digest(fields.take_optional_table("digest")),
        provenance=_parse_provenance(fields.take_optional_table("provenance")),
        record=_parse_record(fields.take_optional_table(VENDOR_KEY)),
    )


def _parse_json(text: bytes) -> object:
    if len(text) > LARGEST_METADATA:
        raise MalformedError(f"the file is larger than {LARGEST_METADATA >> 20} MiB")
    try:
        document: object = json.loads(
            text.decode(), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except MalformedError:
        raise
    except UnicodeError as error:
        raise MalformedError("not JSON: it is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedError(f"not JSON: {reason}") from error
    return document


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MalformedError(f"`{twice}` is given twice")
    return table


def _refuse_constant(name: str) -> None:
    raise MalformedError(f"not JSON: `{name}` is not a number")


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _format_dependency(depend: KernelDependency) -> dict[str, Any]:
    return _without_none({"repo-id": depend.repo_id, "version": depend.version, "revision": depend.revision})


def _parse_url(fields: Fields, key: str) -> str | None:
    text = fields.take_optional_text(key)
    try:
        return None if text is None else parse_git_url(text)
    except ValueError as error:
        raise MalformedError(f"`{key}` {error}") from error


def _parse_dependency(fields: Fields) -> KernelDependency:
    fields.refuse_others({"repo-id", "version", "revision"})
    depend = KernelDependency(
        fields.take_text("repo-id"), fields.take_optional_count("version"), fields.take_optional_text("revision")
    )
    if (depend.version is None) == (depend.revision is None):
        raise MalformedError(f"`{fields.path}` must have exactly one of `version` and `revision`")
    return depend


def _format_git(state: GitState | None) -> dict[str, Any]:
    return {} if state is None else {"commit": state.commit, "dirty": state.dirty}


def _parse_git(fields: Fields) -> GitState | None:
    commit = fields.take_optional_text("commit", _COMMIT) or fields.take_optional_text("sha", _COMMIT)
    dirty = fields.take_optional_flag("dirty")
    if (commit is None) != (dirty is None):
        raise MalformedError(f"`{fields.path}` must have both or neither of `commit` and `dirty`")
    return None if commit is None or dirty is None else GitState(commit, dirty)


def _format_provenance(provenance: Provenance) -> dict[str, Any]:
    table: dict[str, Any] = {
        "kernel-builder": {"version": provenance.builder_version, **_format_git(provenance.builder)}
    }
    if provenance.kernel is not None:
        table["kernel"] = _format_git(provenance.kernel)
    return table


def _parse_provenance(fields: Fields | None) -> Provenance | None:
    if fields is None:
        return None
    builder = fields.take_table("kernel-builder")
    kernel = fields.take_optional_table("kernel")
    return Provenance(builder.take_text("version"), _parse_git(builder), None if kernel is None else _parse_git(kernel))


def _format_digest(digest: Digest) -> dict[str, Any]:
    return {"algorithm": digest.algorithm, "files": dict(sorted(digest.files.items()))}


def _parse_digest(fields: Fields | None) -> Digest | None:
    if fields is None:
        return None
    return Digest(fields.take_choice("algorithm", _ALGORITHMS), fields.take_text_map("files"))


def _format_record(record: BuildRecord) -> dict[str, Any]:
    source = {"commit": record.source_commit, "tree": record.source_tree, "dirty": record.source_dirty}
    return _without_none(
        {
            "variant": record.variant,
            "builder": record.builder_version,
            "inputs": record.inputs,
            "components": dict(sorted(record.components.items())) or None,
            "compiler": record.compiler,
            "toolkit": record.toolkit,
            "check-only": list(record.check_only) or None,
            "flags": list(record.flags) or None,
            "torch": record.torch,
            "tvm-ffi": record.tvm_ffi,
            "platform-policy": record.platform_policy,
            "source": _without_none(source) or None,
            "capabilities": list(record.capabilities) or None,
            "interface": None if record.interface is None else _format_interface(record.interface),
            "tests": None if record.tests is None else dict(record.tests),
        }
    )


def _format_interface(interface: Interface) -> dict[str, Any]:
    return {"names": list(interface.names), "ops": list(interface.ops)}


def _parse_interface(fields: Fields | None) -> Interface | None:
    return None if fields is None else Interface(fields.take_texts("names"), fields.take_texts("ops"))


def _parse_record(fields: Fields | None) -> BuildRecord | None:
    if fields is None:
        return None
    source = fields.take_optional_table("source") or Fields({})
    return BuildRecord(
        variant=fields.take_text("variant"),
        builder_version=fields.take_text("builder"),
        inputs=fields.take_text("inputs"),
        components=fields.take_optional_text_map("components"),
        compiler=fields.take_optional_text("compiler"),
        toolkit=fields.take_optional_text("toolkit"),
        check_only=fields.take_optional_texts("check-only") or (),
        flags=fields.take_optional_texts("flags") or (),
        torch=fields.take_optional_text("torch"),
        tvm_ffi=fields.take_optional_text("tvm-ffi"),
        platform_policy=fields.take_optional_text("platform-policy"),
        source_commit=source.take_optional_text("commit", _COMMIT),
        source_tree=source.take_optional_text("tree", _COMMIT),
        source_dirty=source.take_optional_flag("dirty"),
        capabilities=fields.take_optional_texts("capabilities") or (),
        interface=_parse_interface(fields.take_optional_table("interface")),
        tests=fields.take_optional_object("tests"),
    )
