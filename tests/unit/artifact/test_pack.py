from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kernels._rust import Digest as LoaderDigest
from kernels._rust import DigestAlgorithm
from kernels._rust import Metadata as LoaderMetadata

from kernel_builder.artifact.load import load_artifact
from kernel_builder.artifact.model import Artifact, Metadata
from kernel_builder.artifact.pack import list_stale, open_staging, pack_artifact, place_artifact
from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError, CompileError
from kernel_builder.progress import ignore_progress
from kernel_builder.variant import parse_variant

LINUX = "torch213-cxx11-cpu-x86_64-linux"
METADATA = Metadata("relu", "_relu_cpu_1234567", 1, "MIT", Backend.CPU)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What was installed for a compiled variant."""
    root = tmp_path / "tree"
    for path in ("__init__.py", "_ops.py", "layers/__init__.py", "data/facts.json", "_relu_cpu_1234567.abi3.so"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path, encoding="utf-8")
    return root


def build(tree: Path, output: Path, variant: str = LINUX) -> Artifact:
    with open_staging(output, ignore_progress) as staging:
        return place_artifact(pack_artifact(tree, parse_variant(variant), METADATA, staging), output)


def test_an_artifact_is_flat_and_whole(tree: Path, tmp_path: Path) -> None:
    artifact = build(tree, tmp_path / "build")
    assert artifact.path == tmp_path / "build" / LINUX
    assert {path.relative_to(artifact.path).as_posix() for path in artifact.path.rglob("*") if path.is_file()} == {
        "__init__.py",
        "_ops.py",
        "_relu_cpu_1234567.abi3.so",
        "data/facts.json",
        "layers/__init__.py",
        "metadata.json",
    }
    assert load_artifact(artifact.path) == artifact
    assert list((tmp_path / "build").iterdir()) == [artifact.path]


def test_the_loader_finds_the_digest_true(tree: Path, tmp_path: Path) -> None:
    artifact = build(tree, tmp_path / "build")
    metadata = LoaderMetadata.read_from_file(artifact.path / "metadata.json")
    metadata.digest.validate(LoaderDigest.hash_variant(DigestAlgorithm.SHA256, artifact.path))


def test_modes_are_the_same_for_everybody(tree: Path, tmp_path: Path) -> None:
    (tree / "__init__.py").chmod(0o777)
    (tree / "_ops.py").chmod(0o600)
    old = os.umask(0o077)
    try:
        artifact = build(tree, tmp_path / "build")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in artifact.path.rglob("*") if path.is_file()}
    assert modes == {0o644}
    directories = [artifact.path, *(path for path in artifact.path.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o755}


def test_byte_code_and_empty_directories_are_left_out(tree: Path, tmp_path: Path) -> None:
    (tree / "layers/__pycache__").mkdir()
    (tree / "layers/__pycache__/__init__.cpython-311.pyc").touch()
    (tree / "old.pyc").touch()
    (tree / "nothing/in/here").mkdir(parents=True)
    artifact = build(tree, tmp_path / "build")
    names = {path.name for path in artifact.path.rglob("*")}
    assert names.isdisjoint({"__pycache__", "old.pyc", "nothing"})


def test_a_new_artifact_takes_the_place_of_the_old_one(tree: Path, tmp_path: Path) -> None:
    build(tree, tmp_path / "build")
    (tree / "data/facts.json").unlink()
    (tree / "_ops.py").write_text("new", encoding="utf-8")
    artifact = build(tree, tmp_path / "build")
    assert (artifact.path / "_ops.py").read_text(encoding="utf-8") == "new"
    assert not (artifact.path / "data").exists()
    assert list((tmp_path / "build").iterdir()) == [artifact.path]


def test_a_link_in_the_place_of_the_artifact_is_replaced_and_not_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / LINUX).symlink_to(tmp_path / "elsewhere")
    artifact = build(tree, tmp_path / "build")
    assert not artifact.path.is_symlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_equal_trees_give_equal_bytes(tree: Path, tmp_path: Path) -> None:
    first = build(tree, tmp_path / "one")
    second = build(tree, tmp_path / "two")
    for path in first.path.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (second.path / path.relative_to(first.path)).read_bytes()


def test_without_its_library_a_compiled_variant_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "_relu_cpu_1234567.abi3.so").unlink()
    with pytest.raises(CompileError, match="made no library"):
        build(tree, tmp_path / "build")
    assert list((tmp_path / "build").iterdir()) == []
    build(tree, tmp_path / "build", "torch-cpu")


def test_without_a_package_there_is_no_artifact(tree: Path, tmp_path: Path) -> None:
    (tree / "__init__.py").unlink()
    with pytest.raises(CompileError, match=r"has no `__init__\.py`"):
        build(tree, tmp_path / "build")


@pytest.mark.parametrize("name", ["metadata.json", "metadata.json.sigstore"])
def test_the_names_of_the_artifact_are_its_own(tree: Path, tmp_path: Path, name: str) -> None:
    (tree / name).touch()
    with pytest.raises(BadInputError, match="which is the artifact's own"):
        build(tree, tmp_path / "build")


def test_a_package_with_a_variant_inside_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "torch-cpu").mkdir()
    with pytest.raises(BadInputError, match="names a variant"):
        build(tree, tmp_path / "build")


def test_links_are_not_packed(tree: Path, tmp_path: Path) -> None:
    (tree / "secret.json").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInputError, match="not a regular file"):
        build(tree, tmp_path / "build")


def test_what_a_killed_build_left_is_removed(tree: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "build" / ".staging-dead" / "relu" / LINUX
    leftover.mkdir(parents=True)
    leftover.parent.chmod(0o000)
    artifact = build(tree, tmp_path / "build")
    assert list((tmp_path / "build").iterdir()) == [artifact.path]


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_an_output_that_cannot_be_is_said(tree: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "taken").touch()
    output = tmp_path / "taken" if kind == "file" else tmp_path / "taken" / "build"
    with pytest.raises(BadInputError, match="cannot write to") as raised:
        build(tree, output)
    assert raised.value.problems[0].hint == "choose another place with `--output`"


def test_artifacts_outside_the_plan_are_listed(tree: Path, tmp_path: Path) -> None:
    kept = build(tree, tmp_path / "build")
    old = build(tree, tmp_path / "build", "torch212-cxx11-cpu-x86_64-linux")
    (tmp_path / "build" / "torch-cuda").mkdir()  # not an artifact: it has no metadata
    assert list_stale(tmp_path / "build", {kept.path}) == (old.path,)
    assert list_stale(tmp_path / "nowhere", set()) == ()


@pytest.mark.slow
def test_a_killed_build_leaves_the_old_artifact_the_new_one_or_none(tree: Path, tmp_path: Path) -> None:
    """Kills at many moments; whatever is in the output afterwards loads, and its digest is true."""
    output = tmp_path / "build"
    (tree / "data/big.json").write_bytes(b"x" * 3_000_000)
    script = textwrap.dedent(f"""
        from pathlib import Path
        from kernel_builder.artifact.model import Metadata
        from kernel_builder.artifact.pack import open_staging, pack_artifact, place_artifact
        from kernel_builder.backend import Backend
        from kernel_builder.progress import ignore_progress
        from kernel_builder.variant import parse_variant

        metadata = Metadata("relu", "_relu_cpu_1234567", 1, "MIT", Backend.CPU)
        print("ready", flush=True)
        while True:
            with open_staging(Path({str(output)!r}), ignore_progress) as staging:
                artifact = pack_artifact(Path({str(tree)!r}), parse_variant({LINUX!r}), metadata, staging)
                place_artifact(artifact, Path({str(output)!r}))
    """)
    seen = 0
    for attempt in range(60):
        if attempt >= 12 and seen > 0:  # a busy machine needs longer for the first artifact
            break
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.003 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        visible = [path for path in output.iterdir() if not path.name.startswith(".")] if output.exists() else []
        assert {path.name for path in visible} <= {LINUX}
        for path in visible:
            seen += 1
            digest = LoaderMetadata.read_from_file(path / "metadata.json").digest
            digest.validate(LoaderDigest.hash_variant(DigestAlgorithm.SHA256, path))
    assert seen > 0
