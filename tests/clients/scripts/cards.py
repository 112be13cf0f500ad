"""What the kernels' pages tell a user to run, and the locked ways to the same kernels: `cards.py CARDS_FOLDER`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from huggingface_hub import snapshot_download
from kernels import get_kernel, get_local_kernel, get_locked_kernel, load_kernel
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.clients.published import FLASH, SINKS

PROJECT = f'[project]\nname = "app"\nversion = "1"\n[tool.kernels.dependencies]\n"{FLASH}" = 1\n'


def attend_by_torch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool = False
) -> torch.Tensor:
    query, key, value = (x.transpose(1, 2).contiguous() for x in (query, key, value))
    with sdpa_kernel(SDPBackend.MATH):
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    return out.transpose(1, 2).contiguous()


def is_close(out: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(out, expected, atol=1e-2, rtol=1e-3)


def flash_card() -> dict[str, bool]:
    """The raw functions: dense, causal, and packed sequences of several lengths."""
    torch.manual_seed(42)
    flash_attn = get_kernel(FLASH, version=1)
    q = k = v = torch.randn(2, 5, 4, 8, dtype=torch.float16)
    found = {
        "standard": is_close(flash_attn.fwd(q=q, k=k, v=v, is_causal=False)[0], attend_by_torch(q, k, v)),
        "causal": is_close(flash_attn.fwd(q=q, k=k, v=v, is_causal=True)[0], attend_by_torch(q, k, v, causal=True)),
    }
    q_var = torch.randn(10, 4, 8, dtype=torch.float16)
    k_var = v_var = torch.randn(12, 4, 8, dtype=torch.float16)
    cu_q, cu_k = (torch.tensor(ends, dtype=torch.int32) for ends in ([0, 3, 7, 10], [0, 4, 9, 12]))
    expected = [
        attend_by_torch(q_var[None, a:b], k_var[None, c:d], v_var[None, c:d])[0]
        for a, b, c, d in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True)
    ]
    out = flash_attn.varlen_fwd(
        q=q_var, k=k_var, v=v_var, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, max_seqlen_q=4, max_seqlen_k=5
    )[0]
    return {**found, "variable length": is_close(out, torch.cat(expected))}


def sinks_card(kernel: ModuleType) -> list[list[int]]:
    """The function with sinks, which also returns the log-sum-exp."""
    torch.manual_seed(42)
    q = torch.randn(2, 128, 8, 64, dtype=torch.bfloat16)
    k = torch.randn(2, 256, 8, 64, dtype=torch.bfloat16)
    v = torch.randn(2, 256, 8, 64, dtype=torch.bfloat16)
    output, lse = kernel.flash_attn_func(q, k, v, causal=True)
    return [list(output.shape), list(lse.shape)]


def locked(project: Path) -> dict[str, Any]:
    """A project that locks its kernel, downloads it, and loads it twice: with the Hub, and from the cache alone."""
    (project / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    for command in (["lock"], ["download", "--all-variants"]):
        subprocess.run([Path(sys.executable).with_name("kernels"), *command, project], check=True, stdout=sys.stderr)
    lockfile = project / "kernels.lock"
    commit = json.loads(lockfile.read_text(encoding="utf-8"))[0]["lock"]["commit"]
    q = torch.randn(1, 3, 2, 8)
    kernels = {
        "locked": get_locked_kernel(FLASH, lockfile=lockfile),
        "loaded": load_kernel(FLASH, lockfile=lockfile),
        "revision": get_kernel(FLASH, revision=commit),
    }
    return {"commit": commit, **{name: list(kernel.flash_attn_func(q, q, q).shape) for name, kernel in kernels.items()}}


def main() -> None:
    folder = Path(sys.argv[1])
    whole = snapshot_download(SINKS, repo_type="kernel", revision="v1", local_dir=folder / "clone")
    answers = {
        "flash": flash_card(),
        "sinks": sinks_card(get_kernel(SINKS, version=1)),
        "local": sinks_card(get_local_kernel(Path(whole))),
        "locked": locked(folder),
    }
    sys.stdout.write("\n" + json.dumps(answers))


main()
