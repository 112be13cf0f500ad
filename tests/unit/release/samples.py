"""Artifacts made by hand: as small as they can be, for any variant, with what a test wants to be true of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kernel_builder.artifact.digest import compute_digest
from kernel_builder.artifact.interface import read_interface
from kernel_builder.artifact.load import load_artifact
from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import METADATA_FILE, Artifact, BuildRecord, Metadata
from kernel_builder.testing import digest_artifact
from kernel_builder.variant import ArchVariant, parse_variant

PACKAGE = '"""A kernel."""\n\nimport torch\n\n\ndef relu(x):\n    return torch.relu(x)\n\n\n__all__ = ["relu"]\n'
SCHEMA = b"\0relu(Tensor x) -> Tensor\0"


def make_artifact(
    place: Path,
    variant: str = "torch-cpu",
    *,
    name: str = "relu",
    version: int = 1,
    files: Mapping[str, str | bytes] | None = None,
    archs: Sequence[str] = (),
    capabilities: Sequence[str] = (),
    tested: bool = True,
) -> Artifact:
    """Write `<place>/<variant>/` and load it; without `tested` no test run is recorded in it."""
    target = place / variant
    parsed = parse_variant(variant)
    identifier = f"_{name.replace('-', '_')}_cpu_0123abc"
    library = {f"{identifier}.abi3.so": b"\x7fELF" + SCHEMA} if isinstance(parsed, ArchVariant) else {}
    package = {"__init__.py": PACKAGE, "_ops.py": f"import torch\n\nops = torch.ops.{identifier}\n"}
    for path, content in {**package, **library, **(files or {})}.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    record = BuildRecord(
        variant=variant,
        builder_version="0",
        inputs="0" * 64,
        capabilities=tuple(capabilities),
        interface=read_interface(target),
    )
    metadata = Metadata(
        name=name,
        id=identifier,
        version=version,
        license="Apache-2.0",
        backend=parsed.backend,
        archs=tuple(archs) or None,
        digest=compute_digest(target),
        record=record,
    )
    (target / METADATA_FILE).write_bytes(format_metadata(metadata))
    if tested:
        tests = {
            "passed": True,
            "counts": {"passed": 3},
            "arguments": [],
            "artifact": digest_artifact(Artifact(target, parsed, metadata)),
            "host": "x86_64-linux",
            "torch": "2.13.0",
        }
        metadata = replace(metadata, record=replace(record, tests=tests))
        (target / METADATA_FILE).write_bytes(format_metadata(metadata))
    return load_artifact(target)
