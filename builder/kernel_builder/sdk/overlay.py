"""A torch for the CPU made to serve CUDA variants: its own files by link, with the few beside them that it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.sdk import cuda_gaps
from kernel_builder.sdk.store import Store, hash_text
from kernel_builder.sdk.stubs import write_stub
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.version import MinorVersion

KIND = "torch-overlay-1"


def lay_over(sdk: TorchSdk, toolkit: MinorVersion, host: HostPlatform, store: Store) -> TorchSdk:
    """Give a torch with the headers and the stub libraries of CUDA beside those of `sdk`, which is on this machine.

    toolkit: what the result says that it was built for. Raises `ValueError` off Linux.
    """
    key = hash_text(f"{KIND} {sdk.root} {sdk.version}")
    with store.open_partial(f"{KIND} {key}"):
        found = store.take(store.find(key))
        if found is None:
            with store.open_slice(key) as staging:
                _write_overlay(sdk, host, staging / "torch")
                facts = {
                    "kind": KIND,
                    "package": "torch",
                    "version": sdk.version,
                    "host": str(host),
                    "wheel": "",
                    "record": "",
                }
                store.write_facts(staging, {**facts, "base": str(sdk.root)})
            found = store.find(key)
    assert found is not None  # noqa: S101 - made above
    return replace(sdk, root=found.root / "torch", accelerators={Backend.CUDA: toolkit})


def _write_overlay(sdk: TorchSdk, host: HostPlatform, root: Path) -> None:
    root.mkdir()
    gaps = [(path.relative_to(sdk.include_dir), text) for path, text in cuda_gaps.list_gaps(sdk.include_dir)]
    own = {parent for path, _ in gaps for parent in path.parents}
    _link_tree(sdk.include_dir, root / "include", Path(), own | {Path()})
    for path, text in gaps:
        (root / "include" / path).write_text(text, encoding="ascii")
    _link_tree(sdk.library_dir, root / "lib", Path(), {Path()})
    for name in cuda_gaps.LIBRARIES:
        if not (root / "lib" / f"lib{name}.so").exists():
            write_stub(root / "lib", name, host)
    for name in ("share", "utils", "version.py"):
        if (sdk.root / name).exists():
            (root / name).symlink_to(sdk.root / name)


def _link_tree(source: Path, target: Path, below: Path, own: set[Path]) -> None:
    """Link what lies in a directory; directories in `own` are made, since something is put into them."""
    (target / below).mkdir(parents=True, exist_ok=True)
    if not (source / below).is_dir():
        return
    for path in sorted((source / below).iterdir()):
        place = below / path.name
        if place in own and path.is_dir():
            _link_tree(source, target, place, own)
        else:
            (target / place).symlink_to(path)
    for missing in own:
        (target / missing).mkdir(parents=True, exist_ok=True)
