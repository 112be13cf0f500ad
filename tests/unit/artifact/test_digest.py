from __future__ import annotations

from pathlib import Path

from kernels._rust import Digest as LoaderDigest
from kernels._rust import DigestAlgorithm

from kernel_builder.artifact.digest import compute_digest


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def test_it_is_what_the_loader_computes(tmp_path: Path) -> None:
    write(
        tmp_path,
        "__init__.py",
        "_ops.py",
        "layers/__init__.py",
        "layers/metadata.json",
        "configs/N=14336,K=4096 é.json",
        "_relu_cpu_1234567.abi3.so",
        "empty/nested/deep.txt",
        "metadata.json",
        "metadata.json.sigstore",
        "__pycache__/__init__.cpython-311.pyc",
        "layers/__pycache__/x.txt",
        "stray.pyc",
        ".hidden",
    )
    (tmp_path / "nothing").write_bytes(b"")
    for algorithm in (DigestAlgorithm.SHA256, DigestAlgorithm.SHA512):
        name = str(algorithm).lower()
        assert dict(compute_digest(tmp_path, name).files) == LoaderDigest.hash_variant(algorithm, tmp_path).files


def test_metadata_and_byte_code_are_not_covered(tmp_path: Path) -> None:
    write(tmp_path, "__init__.py", "metadata.json", "metadata.json.sigstore", "__pycache__/a.pyc", "b.pyc")
    assert list(compute_digest(tmp_path).files) == ["__init__.py"]
