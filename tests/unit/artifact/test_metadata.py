from __future__ import annotations

import json
from typing import Any

import pytest
from kernels._rust import Metadata as LoaderMetadata

from kernel_builder.artifact.metadata import LARGEST_METADATA, VENDOR_KEY, format_metadata, parse_metadata
from kernel_builder.artifact.model import BuildRecord, Digest, GitState, Metadata, Provenance
from kernel_builder.backend import Backend
from kernel_builder.spec.model import KernelDependency

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALLEST: dict[str, Any] = {
    "name": "relu",
    "id": "_relu_cpu_1234567",
    "version": 1,
    "license": "Apache-2.0",
    "python-depends": [],
    "backend": {"type": "cpu"},
}
WHOLE = Metadata(
    name="relu",
    id="_relu_cuda_1234567",
    version=3,
    license="Apache-2.0",
    backend=Backend.CUDA,
    archs=("8.0", "9.0a"),
    python_depends=("einops",),
    kernel_depends=(KernelDependency("org/a", version=1), KernelDependency("org/b", revision="main")),
    kernels_minver="0.17.2",
    upstream="https://example.org/relu.git",
    source="git@example.org:me/relu.git",
    digest=Digest("sha256", {"__init__.py": "AAAA"}),
    provenance=Provenance("0.1.0", GitState(COMMIT, dirty=False), GitState(COMMIT, dirty=True)),
    record=BuildRecord(
        variant="torch213-cxx11-cu130-x86_64-linux",
        builder_version="0.1.0",
        inputs="ab" * 32,
        components={"relu": "cd" * 32},
        compiler="gcc 12.2.0",
        flags=("-O2", '-DNAME="a b"'),
        torch="2.13.0+cu130",
        platform_policy="manylinux_2_28",
        source_commit=COMMIT,
        source_tree=COMMIT,
        source_dirty=True,
        tests={"passed": 3, "notes": [None, {"x": 1.5}]},
    ),
)


def text_of(**changes: Any) -> bytes:
    return json.dumps({**SMALLEST, **changes}).encode()


def test_what_is_written_is_read_back() -> None:
    assert parse_metadata(format_metadata(WHOLE)) == WHOLE


def test_the_loader_reads_all_of_it() -> None:
    loaded = LoaderMetadata.from_bytes(format_metadata(WHOLE))
    assert (str(loaded.name), loaded.id, loaded.version, loaded.license) == ("relu", WHOLE.id, 3, "Apache-2.0")
    assert loaded.backend.archs == ["8.0", "9.0a"]
    assert loaded.python_depends == ["einops"]
    assert [depend.repo_id for depend in loaded.kernel_depends] == ["org/a", "org/b"]
    assert str(loaded.kernels_minver) == "0.17.2"
    assert loaded.digest.files == {"__init__.py": "AAAA"}
    assert loaded.provenance.kernel.commit == COMMIT
    assert loaded.provenance.kernel.dirty
    assert loaded.provenance.kernel_builder.version == "0.1.0"
    assert not loaded.provenance.kernel_builder.git.dirty


def test_all_that_is_ours_lies_under_one_key() -> None:
    known = {"upstream", "source", "kernels-minver", "kernel-depends", "digest", "provenance", *SMALLEST}
    assert set(json.loads(format_metadata(WHOLE))) - known == {VENDOR_KEY}


def test_the_six_keys_suffice_and_others_are_passed_over() -> None:
    plain = parse_metadata(text_of())
    assert plain.record is None
    assert plain == parse_metadata(text_of(**{"some-new-key": {"x": 1}, "upstream": None}))


def test_what_is_none_is_not_written() -> None:
    assert set(json.loads(format_metadata(parse_metadata(text_of())))) == set(SMALLEST)


def test_an_older_spelling_of_the_commit_is_understood() -> None:
    provenance = {"kernel-builder": {"version": "1", "sha": COMMIT, "dirty": False}}
    assert parse_metadata(text_of(provenance=provenance)).provenance == Provenance("1", GitState(COMMIT, dirty=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Relu"}, r"`name` must be of the form `.*`, got `\"Relu\"`"),
        ({"id": "../../evil"}, "`id` must be of the form"),
        ({"id": 7}, "`id` must be a string, got `7`"),
        ({"version": True}, "`version` must be a whole number that is not negative, got `true`"),
        ({"version": -1}, "got `-1`"),
        ({"version": 1.5}, "got `1.5`"),
        ({"version": 2**64}, "`version` must be a whole number"),
        ({"license": None}, "`license` must be a string, got `null`"),
        ({"python-depends": "einops"}, "`python-depends` must be a list of strings"),
        ({"python-depends": [1]}, "got a list of 1"),
        ({"backend": {"type": "npu"}}, "`backend.type` must be one of `cann`, `cpu`"),
        ({"backend": {}}, "`backend.type` is missing"),
        ({"backend": []}, "`backend` must be an object, got a list of 0"),
        ({"backend": {"type": "cpu", "archs": "x"}}, r"`backend\.archs` must be a list"),
        ({"kernel-depends": {}}, "`kernel-depends` must be a list of objects"),
        ({"kernel-depends": [{"repo-id": "a/b"}]}, r"`kernel-depends\[0\]` must have exactly one of"),
        ({"kernels-minver": "0.18"}, "`kernels-minver` must be of the form"),
        ({"digest": {"algorithm": "md5", "files": {}}}, "`digest.algorithm` must be one of `sha256`, `sha512`"),
        ({"digest": {"algorithm": "sha256", "files": {"a": 1}}}, "`digest.files` must be an object of strings"),
        ({"provenance": {}}, "`provenance.kernel-builder` is missing"),
        ({"provenance": {"kernel-builder": {"version": "1", "commit": COMMIT}}}, "both or neither"),
        ({"provenance": {"kernel-builder": {"version": "1", "commit": "x", "dirty": True}}}, "commit"),
        ({VENDOR_KEY: {"variant": "x"}}, f"`{VENDOR_KEY}.builder` is missing"),
        ({VENDOR_KEY: {"variant": "x", "builder": "1", "inputs": "y", "tests": 3}}, "tests` must be an object"),
        ({"source": ["x"]}, "`source` must be a string"),
        ({"upstream": "x" * 200}, "`upstream` is not a git URL"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_metadata(text_of(**changes))


@pytest.mark.parametrize("key", SMALLEST)
def test_each_of_the_six_keys_is_needed(key: str) -> None:
    document = {name: value for name, value in SMALLEST.items() if name != key}
    with pytest.raises(ValueError, match=f"`{key}` is missing"):
        parse_metadata(json.dumps(document).encode())
    with pytest.raises(ValueError, match="missing field"):
        LoaderMetadata.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"null", "the document must be an object, got `null`"),
        (b"[]", "the document must be an object"),
        (b"\xff\xfe{}", "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b'{"a": NaN}', "`NaN` is not a number"),
        (b'{"name": "a", "name": "b"}', "`name` is given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"a": "\\ud800"}', "not UTF-8"),
        (b" " * (LARGEST_METADATA + 1), "larger than 8 MiB"),
    ],
)
def test_hostile_documents_are_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_metadata(text)
