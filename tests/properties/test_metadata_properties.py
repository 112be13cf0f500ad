"""Whatever metadata we can express, the loader reads, and reads the same."""

from __future__ import annotations

import contextlib
import json
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kernels._rust import Metadata as LoaderMetadata

from kernel_builder.artifact.interface import Interface
from kernel_builder.artifact.metadata import VENDOR_KEY, format_metadata, parse_metadata
from kernel_builder.artifact.model import BuildRecord, Digest, GitState, Metadata, Provenance
from kernel_builder.backend import Backend
from kernel_builder.spec.model import KernelDependency

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**64 - 1)
commits = st.text("0123456789abcdef", min_size=40, max_size=40) | st.text("0123456789abcdef", min_size=64, max_size=64)
git_states = st.builds(GitState, commits, st.booleans())
identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True)
urls = st.sampled_from(["https://example.org/a/b.git", "ssh://git@example.org/a", "git@example.org:a/b.git"])
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
documents = json_values.map(json.dumps).map(str.encode) | st.text(string.printable, max_size=200).map(str.encode)
dependencies = st.builds(KernelDependency, texts, version=counts, revision=st.none()) | st.builds(
    KernelDependency, texts, version=st.none(), revision=texts
)
records = st.builds(
    BuildRecord,
    variant=texts,
    builder_version=texts,
    inputs=texts,
    components=st.dictionaries(texts, texts, max_size=3),
    compiler=st.none() | texts,
    flags=st.lists(texts, max_size=3).map(tuple),
    torch=st.none() | texts,
    tvm_ffi=st.none() | texts,
    toolkit=st.none() | texts,
    check_only=st.lists(texts, max_size=3).map(tuple),
    platform_policy=st.none() | texts,
    source_commit=st.none() | commits,
    source_tree=st.none() | commits,
    source_dirty=st.none() | st.booleans(),
    capabilities=st.lists(texts, max_size=3).map(tuple),
    interface=st.none() | st.builds(Interface, *[st.lists(texts, max_size=2).map(tuple)] * 2),
    tests=st.none() | st.dictionaries(texts, json_values, max_size=3),
)
digests = st.builds(Digest, st.sampled_from(["sha256", "sha512"]), st.dictionaries(texts, texts, max_size=3))
metadata_values = st.builds(
    Metadata,
    name=st.from_regex(r"[a-z][-a-z0-9]{0,30}[a-z0-9]", fullmatch=True),
    id=identifiers,
    version=counts,
    license=texts,
    backend=st.sampled_from(Backend),
    archs=st.none() | st.lists(texts, max_size=3).map(tuple),
    python_depends=st.lists(texts, max_size=3).map(tuple),
    kernel_depends=st.lists(dependencies, max_size=3).map(tuple),
    kernels_minver=st.none() | st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True),
    upstream=st.none() | urls,
    source=st.none() | urls,
    digest=st.none()
    | st.builds(Digest, st.sampled_from(["sha256", "sha512"]), st.dictionaries(texts, texts, max_size=3)),
    provenance=st.none() | st.builds(Provenance, texts, builder=st.none() | git_states, kernel=st.none() | git_states),
    record=st.none() | records,
)


@given(metadata_values)
def test_what_is_written_is_read_back(metadata: Metadata) -> None:
    assert parse_metadata(format_metadata(metadata)) == metadata


@given(metadata_values)
def test_the_loader_reads_the_same(metadata: Metadata) -> None:
    loaded = LoaderMetadata.from_bytes(format_metadata(metadata))
    assert str(loaded.name) == metadata.name
    assert loaded.name.python_name == metadata.python_name
    assert (loaded.id, loaded.version, loaded.license) == (metadata.id, metadata.version, metadata.license)
    assert str(loaded.backend.backend_type).lower() == metadata.backend
    assert loaded.backend.archs == (None if metadata.archs is None else list(metadata.archs))
    assert loaded.python_depends == list(metadata.python_depends)
    assert [depend.repo_id for depend in loaded.kernel_depends] == [
        depend.repo_id for depend in metadata.kernel_depends
    ]
    assert (loaded.digest is None) == (metadata.digest is None)
    if metadata.digest is not None:
        assert loaded.digest.files == metadata.digest.files
        assert str(loaded.digest.algorithm).lower() == metadata.digest.algorithm
    assert (loaded.provenance is None) == (metadata.provenance is None)
    if metadata.provenance is not None:
        kernel = loaded.provenance.kernel
        assert (None if kernel is None else GitState(kernel.commit, kernel.dirty)) == metadata.provenance.kernel


@given(metadata_values, st.dictionaries(texts, json_values, max_size=3))
def test_keys_of_others_change_nothing(metadata: Metadata, extra: dict[str, Any]) -> None:
    document = json.loads(format_metadata(metadata))
    known = {*document, "archs", "upstream", "source", "kernels-minver", "kernel-depends", "digest", "provenance"}
    added = {key: value for key, value in extra.items() if key not in known and key != VENDOR_KEY}
    assert parse_metadata(json.dumps({**added, **document}).encode()) == metadata


@given(st.binary(max_size=200) | documents)
def test_whatever_the_bytes_the_answer_is_a_value_or_a_reason(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_metadata(text)


@given(metadata_values, st.data())
def test_what_we_accept_the_loader_accepts(metadata: Metadata, data: st.DataObject) -> None:
    """A value somewhere in a good document is replaced; whatever we still take, the loader takes as well."""
    document = json.loads(format_metadata(metadata))
    document.pop(VENDOR_KEY, None)
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(json_values)
    text = json.dumps(document).encode()
    try:
        parse_metadata(text)
    except ValueError:
        return
    LoaderMetadata.from_bytes(text)
