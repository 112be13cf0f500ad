"""The claim itself: a torch that is not here is compiled against, out of the index that pip is configured for."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from kernel_builder.errors import FetchError, ToolchainMissingError
from kernel_builder.progress import BytesReceived, Event
from kernel_builder.sdk.settings import load_settings
from kernel_builder.sdk.store import open_store
from kernel_builder.sdk.torch_slice import obtain_torch_sdk
from kernel_builder.toolchains.system import probe_cxx
from kernel_builder.torch_sdk import TorchSdk, probe_torch
from kernel_builder.version import MinorVersion

RELEASES = (MinorVersion(2, 11), MinorVersion(2, 12))
TARGET = "0x020a000000000000"  # the stable ABI of 2.10, which every later torch keeps
SOURCE = """\
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
using torch::stable::Tensor;
Tensor zeros_of(const Tensor& x) {
  Tensor y = torch::stable::empty_like(x);
  return torch::stable::zero_(y);
}
STABLE_TORCH_LIBRARY(sliced, m) { m.def("zeros_of(Tensor x) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(sliced, CPU, m) { m.impl("zeros_of", TORCH_BOX(&zeros_of)); }
"""


@pytest.fixture
def other_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TorchSdk:
    """A slice of a release that is not installed, fetched now."""
    installed = probe_torch()
    assert installed is not None
    other = next(release for release in RELEASES if release != installed.release)
    monkeypatch.setenv("KERNEL_BUILDER_CACHE", str(tmp_path / "cache"))
    told: list[Event] = []
    try:
        sdk = obtain_torch_sdk(other, installed=installed, listener=told.append)
    except (FetchError, ToolchainMissingError) as error:
        pytest.skip(f"no package index with torch {other} is reached here: {error.problems[0].message}")
    traffic = [event for event in told if isinstance(event, BytesReceived)][-1]
    (cached,) = open_store(load_settings(), told.append).list_slices()
    assert traffic.received < cached.facts["wheel-size"] / 5 or traffic.requests <= 3, "an index without ranges"
    assert sdk.root == cached.root / "torch"
    return sdk


def test_an_op_compiled_against_a_slice_runs_in_the_installed_torch(other_torch: TorchSdk, tmp_path: Path) -> None:
    cxx = probe_cxx()
    assert cxx is not None
    (tmp_path / "op.cpp").write_text(SOURCE, encoding="utf-8")
    library = tmp_path / "op.so"
    includes = [other_torch.include_dir, sysconfig.get_path("include")]
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", f"-DTORCH_TARGET_VERSION={TARGET}", "-Wl,--no-as-needed"]
    libraries = [str(other_torch.library_dir / f"lib{name}.so") for name in ("torch_cpu", "torch", "c10")]
    command = [*cxx.argv, *flags, *(f"-I{place}" for place in includes), str(tmp_path / "op.cpp"), "-o", str(library)]
    subprocess.run([*command, *libraries], check=True)
    code = (
        "import json, sys, torch\n"
        "torch.ops.load_library(sys.argv[1])\n"
        "print(json.dumps(torch.ops.sliced.zeros_of(torch.ones(3)).tolist()))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True, check=False, cwd="/")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [0.0, 0.0, 0.0]
