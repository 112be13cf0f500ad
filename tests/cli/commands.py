"""Run the real command, in a process of its own, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "tests" / "fixtures" / "kernels"
SECONDS = 120  # far beyond what any of these needs: a hang must fail, not block


def run_builder(
    arguments: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `kernel-builder` with the words; a variable that is None in `env` is unset."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "builder"), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "kernel_builder", *arguments],
        cwd=cwd,
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )


def load_document(completed: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document that a command wrote to stdout."""
    document: dict[str, Any] = json.loads(completed.stdout)
    return document


def check_document(document: dict[str, Any], command: str, *, ok: bool = True) -> None:
    """Hold a document against the schema, the command's name and the verdict that are expected."""
    jsonschema.Draft202012Validator(load_schema("cli/output.schema.json")).validate(document)
    assert document["command"] == command
    assert document["ok"] is ok


def load_schema(path: str) -> dict[str, Any]:
    """A schema of the package, itself checked."""
    schema: dict[str, Any] = json.loads((ROOT / "builder" / "kernel_builder" / path).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema
