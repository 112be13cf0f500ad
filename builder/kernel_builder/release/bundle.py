"""A release in one signed file, to be carried where no network goes.

It is a zip file: `manifest.json` lists every file with its size and sha256, `signature.json` is over the manifest.
Nothing in it is believed before the signature is that of a trusted key, and no byte is kept that is not listed.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kernel_builder import __version__
from kernel_builder.artifact.fields import Fields, MalformedError
from kernel_builder.artifact.load import load_artifact
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.release.archive import is_plain_entry, write_archive
from kernel_builder.release.contents import collect_release, describe_file
from kernel_builder.release.model import BUILD_FOLDER, Evidence, Release
from kernel_builder.release.plan import list_variants
from kernel_builder.release.signing import encode_key, is_signed_by, sign, tell_fingerprint
from kernel_builder.spec.names import parse_repo_id

SUFFIX = ".kernel.zip"
SCHEMA = 1
MANIFEST, SIGNATURE = "manifest.json", "signature.json"
_FORMAT = "kernel-builder release"
_CONTEXT = b"kernel-builder release manifest\n"  # a signature over anything else is none over this
_REPORTS = "reports"
_LARGEST_MANIFEST = 256 << 20
_LARGEST_SIGNATURE = 1 << 16
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A release that came out of a file: where it was published first, its digest, who signed it, its benchmarks."""

    release: Release
    repo_id: str | None
    digest: str
    fingerprint: str
    reports: tuple[Mapping[str, Any], ...] = ()


def write_bundle(
    release: Release,
    target: Path,
    key: Ed25519PrivateKey,
    *,
    repo_id: str | None = None,
    reports: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write and sign a release; equal releases and keys give equal bytes. Gives the hex sha256 of the manifest.

    repo_id: where it belongs, for whoever imports it without a word.
    """
    extra = {f"{_REPORTS}/{number:03}.json": _format(report) for number, report in enumerate(reports)}
    files = {
        **release.files,
        **{figure.path: figure for figure in release.figures},
        **{path: describe_file(path, content) for path, content in extra.items()},
    }
    manifest = _format(
        {
            "format": _FORMAT,
            "schema": SCHEMA,
            "builder": __version__,
            "kernel": release.name,
            "version": release.version,
            "repo-id": repo_id,
            "evidence": {
                variant: {"audit": evidence.audit, "tests": evidence.tests}
                for variant, evidence in sorted(release.evidence.items())
            },
            "files": {path: {"size": file.size, "sha256": file.sha256} for path, file in sorted(files.items())},
        }
    )
    signature = _format({"key": encode_key(key.public_key()), "signature": sign(key, _CONTEXT + manifest)})
    contents = [(path, file.source) for path, file in sorted(files.items())]
    write_archive(target, [(MANIFEST, manifest), (SIGNATURE, signature), *contents])
    return hashlib.sha256(manifest).hexdigest()


@contextmanager
def open_bundle(file: Path, trusted: Sequence[Ed25519PublicKey]) -> Iterator[Bundle]:
    """Check a file and unpack it to a place of its own, which is gone at the end.

    Raises `BadInputError` unless a trusted key signed it and every byte in it is what was signed.
    """
    with TemporaryDirectory(prefix="kernel-builder-import-") as scratch:
        yield _load(file, trusted, Path(scratch))


_HINT = "`kernel-builder export` makes them; this one may have been damaged on its way"
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
"""What `zipfile` says of a file that is none, or not any more; encrypted and unknown ones are among them."""


def _load(file: Path, trusted: Sequence[Ed25519PublicKey], place: Path) -> Bundle:
    try:
        with zipfile.ZipFile(file) as archive:
            manifest, fingerprint = _read_manifest(file, archive, trusted)
            return _unpack(file, archive, manifest, place, fingerprint)
    except _BROKEN_ZIP as error:
        raise BadInputError(Problem(f"`{file}` is not a release: {error}", hint=_HINT)) from error
    except OSError as error:
        raise BadInputError(Problem(f"cannot read `{file}`: {error.strerror or error}")) from error


def _read_manifest(file: Path, archive: zipfile.ZipFile, trusted: Sequence[Ed25519PublicKey]) -> tuple[bytes, str]:
    manifest = _read_entry(file, archive, MANIFEST, _LARGEST_MANIFEST)
    try:
        fields = Fields(json.loads(_read_entry(file, archive, SIGNATURE, _LARGEST_SIGNATURE)))
        key, signature = fields.take_text("key"), fields.take_text("signature")
        fingerprint = tell_fingerprint(key)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its signature cannot be read: {error}") from error
    own = [candidate for candidate in trusted if encode_key(candidate) == key]
    if not own:
        raise BadInputError(
            Problem(
                f"`{file}` is signed with the key `{fingerprint}`, which is not trusted here",
                hint="compare it with what its maker tells you, then give the maker's public key with `--trust FILE`",
            )
        )
    if not is_signed_by(own[0], signature, _CONTEXT + manifest):
        raise _damaged(file, f"its signature is not that of `{fingerprint}`")
    return manifest, fingerprint


def _unpack(file: Path, archive: zipfile.ZipFile, text: bytes, place: Path, fingerprint: str) -> Bundle:
    try:
        fields = Fields(json.loads(text))
        if fields.take_text("format") != _FORMAT or fields.take_count("schema") != SCHEMA:
            raise MalformedError("this version of kernel-builder reads another form")
        listed = {path: _parse_entry(value) for path, value in (fields.take_optional_object("files") or {}).items()}
        evidence = {
            variant: _parse_evidence(value)
            for variant, value in (fields.take_optional_object("evidence") or {}).items()
        }
        named = fields.take_optional_text("repo-id")
        repo_id = None if named is None else parse_repo_id(named)
        name, version = fields.take_text("kernel"), fields.take_count("version")
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its manifest cannot be read: {error}") from error
    _check_entries(file, archive, listed)
    for path, promise in listed.items():
        _extract(file, archive, path, promise, place)
    artifacts = [load_artifact(place / BUILD_FOLDER / variant) for variant in list_variants(listed)]
    if not artifacts:
        raise _damaged(file, "it has no variant")
    release = replace(collect_release(artifacts), evidence=evidence)
    if (release.name, release.version) != (name, version) or set(release.files) != _list_build_files(listed):
        raise _damaged(file, "its manifest does not fit what is in it")
    figures = [describe_file(path, place / path) for path in sorted(listed) if path.startswith("benchmarks/")]
    reports = [_read_report(file, place / path) for path in sorted(listed) if path.startswith(f"{_REPORTS}/")]
    digest = hashlib.sha256(text).hexdigest()
    return Bundle(replace(release, figures=tuple(figures)), repo_id, digest, fingerprint, tuple(reports))


def _read_report(file: Path, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(file, f"a benchmark report in it cannot be read: {error}") from error


def _check_entries(file: Path, archive: zipfile.ZipFile, listed: Mapping[str, tuple[int, str]]) -> None:
    """Exactly what is listed is there, each once, and no entry leads elsewhere."""
    entries = archive.infolist()
    for entry in entries:
        if not is_plain_entry(entry):
            raise _damaged(file, f"the entry `{entry.filename}` leads elsewhere or is no plain file")
    names = [entry.filename for entry in entries]
    if len(set(map(str.casefold, names))) != len(names):
        raise _damaged(file, "two entries have the same name")
    odd = sorted(set(names) ^ {MANIFEST, SIGNATURE, *listed})
    if odd:
        raise _damaged(file, f"`{odd[0]}` is in the file or in the manifest, but not in both")


def _extract(file: Path, archive: zipfile.ZipFile, path: str, listed: tuple[int, str], place: Path) -> None:
    size, sha256 = listed
    target = place / path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), size
    with archive.open(path) as source, target.open("xb") as sink:
        while block := source.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                break
            digest.update(block)
            sink.write(block)
    if left != 0 or digest.hexdigest() != sha256:
        raise _damaged(file, f"`{path}` is not what was signed")


def _read_entry(file: Path, archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    try:
        with archive.open(name) as stream:
            content = stream.read(largest + 1)
    except KeyError as error:
        raise _damaged(file, f"it has no `{name}`") from error
    if len(content) > largest:
        raise _damaged(file, f"`{name}` is too large")
    return content


def _parse_entry(value: Any) -> tuple[int, str]:
    fields = Fields(value, "files")
    return fields.take_count("size"), fields.take_text("sha256")


def _parse_evidence(value: Any) -> Evidence:
    fields = Fields(value, "evidence")
    return Evidence(fields.take_optional_text("audit"), fields.take_optional_text("tests"))


def _list_build_files(paths: Iterable[str]) -> set[str]:
    return {path for path in paths if path.startswith(f"{BUILD_FOLDER}/")}


def _format(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _damaged(file: Path, reason: str) -> BadInputError:
    return BadInputError(Problem(f"`{file}` is refused: {reason}", hint=_HINT))
