"""What a branch offers its users now, read from the little that tells it: metadata, and package files if need be."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from kernel_builder.artifact.interface import Interface, read_interface
from kernel_builder.artifact.metadata import parse_metadata
from kernel_builder.artifact.model import METADATA_FILE, Metadata
from kernel_builder.backend import Backend
from kernel_builder.release.hub import Hub
from kernel_builder.release.model import BUILD_FOLDER, Holding, Repo

_INTERFACE_FILES = ("__init__.py", "layers.py", "layers/__init__.py")
_UNREADABLE = Metadata(name="unknown", id="unknown", version=0, license="unknown", backend=Backend.CPU)


def load_holdings(
    hub: Hub, repo: Repo, commit: str, variants: Iterable[str], present: Collection[str]
) -> tuple[Holding, ...]:
    """Read what some variants of a commit offer; `present` are all paths there.

    Metadata that cannot be read offers nothing but the variant itself. Libraries are not fetched: ops are known where
    this builder recorded them.
    """
    variants = sorted(variants)
    metadata_paths = {variant: f"{BUILD_FOLDER}/{variant}/{METADATA_FILE}" for variant in variants}
    texts = hub.fetch(repo, commit, [path for path in metadata_paths.values() if path in present])
    metadata = {variant: _parse(texts.get(path)) for variant, path in metadata_paths.items()}
    silent = [variant for variant, value in metadata.items() if value.record is None or value.record.interface is None]
    sources = hub.fetch(
        repo,
        commit,
        [path for variant in silent for path in _list_interface_paths(variant, metadata[variant]) if path in present],
    )
    holdings = []
    for variant, value in metadata.items():
        recorded = None if value.record is None else value.record.interface
        interface = _read_sources(variant, sources) if recorded is None else recorded
        holdings.append(Holding(variant, value, interface))
    return tuple(holdings)


def _parse(text: bytes | None) -> Metadata:
    try:
        return _UNREADABLE if text is None else parse_metadata(text)
    except ValueError:
        return _UNREADABLE


def _list_interface_paths(variant: str, metadata: Metadata) -> Iterable[str]:
    for folder in ("", f"{metadata.python_name}/"):
        yield from (f"{BUILD_FOLDER}/{variant}/{folder}{name}" for name in _INTERFACE_FILES)


def _read_sources(variant: str, sources: dict[str, bytes]) -> Interface:
    prefix = f"{BUILD_FOLDER}/{variant}/"
    with tempfile.TemporaryDirectory(prefix="kernel-builder-remote-") as scratch:
        for path, content in sources.items():
            if path.startswith(prefix):
                target = Path(scratch, path.removeprefix(prefix))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        return read_interface(Path(scratch))
