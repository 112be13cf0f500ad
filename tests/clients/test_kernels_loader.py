"""The `kernels` package finds, checks and imports the built kernels, wherever it is pointed."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import kernels
import pytest
import torch
from kernels.variants import get_variants_local, resolve_variants
from torch.nn.functional import scaled_dot_product_attention

from tests.clients.repositories import FLASH, FLASH_2, SINKS

FLASH_FUNCTIONS = {"flash_attn_func", "flash_attn_varlen_func", "flash_attn_with_kvcache", "fwd", "varlen_fwd", "bwd"}
SINKS_FUNCTIONS = {"flash_attn_func", "flash_attn_forward", "supports_flash_attn"}

REQUIRED_KEYS = {"name", "id", "version", "license", "python-depends", "backend"}
OPTIONAL_KEYS = {"upstream", "source", "kernel-depends", "kernels-minver", "digest", "provenance"}


@pytest.fixture(params=["flash", "sinks"])
def repository(request: pytest.FixtureRequest, flash_repository: Path, sinks_repository: Path) -> Path:
    return flash_repository if request.param == "flash" else sinks_repository


def _variants(repository: Path) -> list[Path]:
    """Return the artifacts of a repository, which may keep them in `build/`."""
    build = repository / "build" if (repository / "build").is_dir() else repository
    return sorted(path.parent for path in build.glob("torch*/metadata.json"))


def _attend(module: Any, **settings: Any) -> torch.Tensor:
    q, k, v = (torch.randn(1, 5, 4, 16) for _ in range(3))
    out = module.flash_attn_func(q, k, v, **settings)
    attended: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return attended


def test_a_repository_its_build_folder_and_a_variant_are_the_same_kernel(
    flash_repository: Path, sinks_repository: Path
) -> None:
    for repository in (flash_repository, sinks_repository):
        module = kernels.get_local_kernel(repository)
        if (repository / "build").is_dir():
            assert kernels.get_local_kernel(repository / "build") is module
        for variant in _variants(repository):
            loaded = kernels.get_local_kernel(variant)
            assert (loaded is module) == (Path(module.__file__).parent == variant)


def test_every_variant_of_a_repository_works(repository: Path) -> None:
    """Several ABIs of one kernel can live in one process: each has ops of its own."""
    torch.manual_seed(0)
    expected = _attend(kernels.get_local_kernel(repository), causal=True)
    for variant in _variants(repository):
        torch.manual_seed(0)
        torch.testing.assert_close(_attend(kernels.get_local_kernel(variant), causal=True), expected)


def test_local_kernels_leads_a_name_to_the_kernel(flash_repository: Path, sinks_repository: Path) -> None:
    flash, sinks = kernels.get_kernel(FLASH, version=1), kernels.get_kernel(SINKS, version=1)
    assert flash is kernels.get_local_kernel(flash_repository)
    assert sinks is kernels.get_local_kernel(sinks_repository)
    assert kernels.get_kernel(FLASH_2, revision="any") is flash
    assert set(flash.__all__) >= FLASH_FUNCTIONS
    assert set(sinks.__all__) >= SINKS_FUNCTIONS
    for module in (flash, sinks):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_loaded_kernels_say_what_they_are(flash_repository: Path, sinks_repository: Path) -> None:
    modules = {kernels.get_local_kernel(path): path for path in (flash_repository, sinks_repository)}
    loaded = {each.module: each.metadata for each in kernels.get_loaded_kernels() if each.module in modules}
    assert sorted(str(metadata.name) for metadata in loaded.values()) == ["attn-sinks", "flash-attn-kernel"]
    for module, metadata in loaded.items():
        assert sys.modules[metadata.id] is module
        assert metadata.license == "Apache-2.0"
        assert str(metadata.backend.backend_type) == "cpu"
        assert metadata.python_depends == []
        assert metadata.kernel_depends == []


def test_the_two_kernels_share_a_process(flash_repository: Path, sinks_repository: Path) -> None:
    flash, sinks = (kernels.get_local_kernel(path) for path in (flash_repository, sinks_repository))
    assert flash.__name__ != sinks.__name__
    q, k, v = (torch.randn(2, 9, 4, 16) for _ in range(3))
    sink = torch.randn(4)
    out, lse = sinks.flash_attn_func(q, k, v, causal=True, s_aux=sink)
    torch.testing.assert_close(flash.flash_attn_func(q, k, v, causal=True, s_aux=sink), out)
    assert lse.shape == (2, 4, 9)


def test_has_kernel_tells_what_this_machine_can_load(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernels.has_kernel(FLASH, version=1)
    assert kernels.has_kernel(SINKS, version=1)
    variant = next(each for each in _variants(repository) if platform.machine() in each.name)
    shutil.copytree(variant, tmp_path / "build" / variant.name.replace(platform.machine(), "riscv64"))
    monkeypatch.setenv("LOCAL_KERNELS", f"acme/elsewhere={tmp_path}")
    assert not kernels.has_kernel("acme/elsewhere", version=1)
    with pytest.raises(FileNotFoundError, match=r"CPU \(riscv64\) does not match system CPU"):
        kernels.get_kernel("acme/elsewhere", version=1)


def test_the_loader_accepts_every_variant_and_prefers_the_stable_abi(repository: Path) -> None:
    names = {path.name for path in _variants(repository)}
    folder = _variants(repository)[0].parent
    accepted, trace = resolve_variants(get_variants_local(folder))
    assert {each.variant_str for each in accepted} == names
    assert len(trace) == len(names), "only build variants may lie in the folder"
    assert Path(kernels.get_local_kernel(repository).__file__).parent.name == accepted[0].variant_str
    if any("stable-abi" in name for name in names):
        assert "stable-abi" in accepted[0].variant_str


def test_metadata_is_good_for_this_loader_and_the_next(repository: Path) -> None:
    """Only keys that the loader knows by name and shape are at its places; everything else of ours it must skip."""
    for variant in _variants(repository):
        text = (variant / "metadata.json").read_bytes()
        raw, metadata = json.loads(text), kernels.Metadata.from_bytes(text)
        assert REQUIRED_KEYS | {"digest", "provenance"} <= set(raw)
        assert set(raw) - REQUIRED_KEYS - OPTIONAL_KEYS == {"x-kernel-builder"}
        assert raw["backend"] == {"type": "cpu"}
        assert "kernels-minver" not in raw, "the kernel needs nothing that an older loader lacks"
        assert raw["provenance"]["kernel-builder"]["version"]
        assert metadata.digest is not None
        actual = kernels._rust.Digest.hash_variant(metadata.digest.algorithm, variant)
        metadata.digest.validate(actual)


def test_the_low_level_functions_as_model_cards_show_them(flash_repository: Path) -> None:
    """Half precision and eight dimensions, dense and packed: the smallest inputs that people try first."""
    flash = kernels.get_local_kernel(flash_repository)
    q, k, v = (torch.randn(2, 5, 4, 8, dtype=torch.float16) for _ in range(3))
    for causal in (False, True):
        out = flash.fwd(q=q, k=k, v=v, is_causal=causal)[0]
        expected = scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=causal
        )
        torch.testing.assert_close(out, expected.transpose(1, 2), atol=1e-2, rtol=1e-3)
    bounds = torch.tensor([0, 5, 10], dtype=torch.int32)
    packed = flash.varlen_fwd(
        q=q.flatten(0, 1),
        k=k.flatten(0, 1),
        v=v.flatten(0, 1),
        cu_seqlens_q=bounds,
        cu_seqlens_k=bounds,
        max_seqlen_q=5,
        max_seqlen_k=5,
        is_causal=True,
    )[0]
    torch.testing.assert_close(packed.view_as(q), flash.fwd(q=q, k=k, v=v, is_causal=True)[0])


def test_the_functions_of_the_sinks_kernel_return_two_values(sinks_repository: Path) -> None:
    q, k, v = (torch.randn(2, length, 8, 64, dtype=torch.bfloat16) for length in (128, 256, 256))
    out, lse = kernels.get_local_kernel(sinks_repository).flash_attn_func(q, k, v, causal=True)
    assert out.shape == (2, 128, 8, 64)
    assert lse.shape == (2, 8, 128)


def test_a_version_must_be_named() -> None:
    with pytest.raises(ValueError, match="A kernel version or revision must be specified"):
        kernels.get_kernel(FLASH)


def test_a_path_must_be_a_path(flash_repository: Path) -> None:
    with pytest.raises((TypeError, AttributeError)):
        kernels.get_local_kernel(str(flash_repository))


def test_an_entry_without_a_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A colon separates entries, so that a path cannot contain one."""
    monkeypatch.setenv("LOCAL_KERNELS", f"{FLASH}=/some:where")
    with pytest.raises(ValueError, match="Invalid LOCAL_KERNELS entry: where"):
        kernels.get_kernel(FLASH, version=1)
