"""The examples for transformers run, and find what they compare to be equal."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["transformers_llama.py", "gpt_oss_sinks.py"])
def test_example(
    name: str,
    flash_repository: Path,
    sinks_repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kernels = {"my-org/flash-attn-kernel": flash_repository, "my-org/attn-sinks": sinks_repository}
    monkeypatch.setenv("LOCAL_KERNELS", ":".join(f"{repository}={path}" for repository, path in kernels.items()))
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert all(line.endswith("ok") for line in printed[1:])
