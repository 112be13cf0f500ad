"""Whatever lies in an artifact, the audit answers: with a report or with a sentence, never with a traceback."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels._rust import Metadata as LoaderMetadata

from kernel_builder.audit import audit_directory
from kernel_builder.audit.binary import BinaryFacts, UnreadableBinaryError
from kernel_builder.audit.elf import read_elf
from kernel_builder.audit.mangled import qualified_name
from kernel_builder.audit.policy import load_policy
from tests.unit.audit.samples import ID, good_metadata, link_module, seal, write_artifact

MEMORY = 48 << 20


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(scope="module")
def module(directory: Path) -> bytes:
    return link_module(directory).read_bytes()


def read(directory: Path, content: bytes) -> BinaryFacts | None:
    """The facts, or None when the file is refused; anything else is a fault of the reader."""
    file = directory / "subject.so"
    file.write_bytes(content)
    tracemalloc.start()
    try:
        return read_elf(file)
    except UnreadableBinaryError:
        return None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY


@given(content=st.binary(max_size=4096))
@example(content=b"\x7fELF\x02\x01\x01" + bytes(57))
@example(content=b"\x7fELF\x01\x02\x01" + b"\xff" * 57)
def test_arbitrary_bytes(directory: Path, content: bytes) -> None:
    assert read(directory, content) is None
    assert read(directory, b"\x7fELF\x02\x01\x01" + content) is None or len(content) > 64


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_libraries(directory: Path, module: bytes, data: st.DataObject) -> None:
    """Bytes overwritten anywhere, most of them where the tables are."""
    content = bytearray(module)
    places = st.one_of(st.integers(0, 0x400), st.integers(0, len(content) - 1))
    values = st.sampled_from([b"\0", b"\x01", b"\x7f", b"\xff", b"\xff\xff\xff\xff", b"\xff" * 8, b"\0" * 8])
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        value = data.draw(st.one_of(values, st.binary(min_size=1, max_size=8)))
        content[place : place + len(value)] = value
    facts = read(directory, bytes(content[: len(module)]))
    if facts is not None:
        assert len(facts.symbols) <= len(content) // 16
        assert all("\0" not in symbol.name for symbol in facts.symbols)


@settings(max_examples=100)
@given(cut=st.integers(min_value=0))
def test_libraries_that_are_cut_off(directory: Path, module: bytes, cut: int) -> None:
    whole = read(directory, module)
    facts = read(directory, module[: cut % len(module)])
    # Without the section headers at its end a library is as good as before.
    assert facts is None or (whole is not None and facts.symbols == whole.symbols)


@given(count=st.sampled_from([2**16 - 1, 2**31, 2**32 - 1]), entry=st.integers(0, 40))
def test_counts_are_claims(directory: Path, module: bytes, count: int, entry: int) -> None:
    """Every number in the dynamic segment, made enormous in turn."""
    content = bytearray(module)
    offset = content.index((5).to_bytes(8, "little"), 0x200)  # DT_STRTAB, somewhere in the dynamic segment
    place = offset + 8 + 16 * (entry - 20)
    content[place : place + 8] = count.to_bytes(8, "little")
    read(directory, bytes(content[: len(module)]))


@settings(max_examples=40)
@given(content=st.binary(max_size=512), name=st.sampled_from([f"{ID}.abi3.so", "lib.so.1", "op.py", "_ops.py"]))
def test_artifacts_with_arbitrary_files(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        artifact = write_artifact(Path(path))
        (artifact / name).write_bytes(content)
        seal(artifact, good_metadata())
        report = audit_directory(artifact, import_check=False)
        assert not report.passed
        assert "\n".join(report.render_lines()).replace("\n", "").isprintable()


PYTHON_PIECES = [
    "if x:\n",
    "import a\n",
    "    ",
    "@f('a::b')\n",
    "def f(): pass\n",
    "(",
    "class A:\n",
    "\\\n",
    "else:\n",
]


@settings(max_examples=60)
@given(source=st.text(max_size=200) | st.lists(st.sampled_from(PYTHON_PIECES)).map("".join))
def test_artifacts_with_arbitrary_python(source: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        artifact = write_artifact(Path(path), variant="torch-cpu")
        (artifact / "op.py").write_bytes(source.encode("utf-8", "surrogatepass"))
        seal(artifact, good_metadata())
        allowed = {"python-syntax", "python-version", "python-imports", "op-namespace", "op-literal", "import-done"}
        assert {finding.rule for finding in audit_directory(artifact, import_check=False).findings} <= allowed


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["cpu", "sha256", "relu", "1.2.3"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "archs", "algorithm", "files", "repo-id", "version", "commit"]), inner
        )
    ),
    max_leaves=6,
)
KEYS = [
    "name", "id", "version", "license", "python-depends", "backend", "kernel-depends", "kernels-minver", "digest",
    "provenance", "upstream", "source", "x-unknown",
]  # fmt: skip


CHANGES = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3)


@settings(max_examples=200)
@given(changes=CHANGES, gone=st.sets(st.sampled_from(KEYS), max_size=1))
def test_metadata_that_passes_is_metadata_that_the_loader_takes(changes: dict[str, object], gone: set[str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        artifact = write_artifact(Path(path), variant="torch-cpu")
        file = artifact / "metadata.json"
        document = {**json.loads(file.read_bytes()), **changes}
        content = json.dumps({key: value for key, value in document.items() if key not in gone}).encode()
        file.write_bytes(content)
        report = audit_directory(artifact, import_check=False)
        if not any(finding.rule.startswith("metadata-") for finding in report.findings):
            LoaderMetadata.from_bytes(content)


@settings(max_examples=60)
@given(place=st.integers(min_value=0), flip=st.integers(1, 255), file=st.sampled_from(["_ops.py", "__init__.py"]))
def test_one_changed_byte_is_never_missed(place: int, flip: int, file: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        artifact = write_artifact(Path(path), variant="torch-cpu")
        content = bytearray((artifact / file).read_bytes())
        content[place % len(content)] ^= flip
        (artifact / file).write_bytes(content)
        rules = {finding.rule for finding in audit_directory(artifact, import_check=False).findings}
        assert "digest-match" in rules


@given(st.text(max_size=40), st.sampled_from(["", "_Z", "_ZN", "_ZNK3c10", "_ZTV", "_ZTh"]))
def test_any_symbol_has_a_qualified_name(text: str, prefix: str) -> None:
    assert isinstance(qualified_name(prefix + text), tuple)


@given(st.text(max_size=20) | st.from_regex(r"(GLIBC|GLIBCXX|GCC|OMP)_[0-9.]{0,12}", fullmatch=True))
def test_any_version_gets_a_verdict(version: str) -> None:
    assert isinstance(load_policy().provides_version(version), bool)


def test_the_digest_is_what_anybody_can_compute(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cpu", files={"data/table.json": os.urandom(9).hex()})
    declared = json.loads((artifact / "metadata.json").read_bytes())["digest"]
    expected = {
        name: base64.b64encode(hashlib.sha256((artifact / name).read_bytes()).digest()).decode()
        for name in ("__init__.py", "_ops.py", "data/table.json")
    }
    assert declared == {"algorithm": "sha256", "files": expected}
