"""A registry as its users run it: a process of its own, on a free port of the loopback interface."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from huggingface_hub import HfApi

ROOT = Path(__file__).parents[2]
WRITE_TOKEN, READ_TOKEN = "hf_writer_of_the_tests", "hf_reader_of_the_tests"


@dataclass
class RegistryProcess:
    """`kernel-builder serve` on one folder, which outlives the process: it can be killed and started again."""

    root: Path
    options: tuple[str, ...] = ()
    tokens: bool = True
    file_limit: int | None = None
    port: int = 0
    endpoint: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers; after the first time on the same port again."""
        words = ("serve", "--json", "--root", str(self.root), "--port", str(self.port), *self.options)
        tokens = {"KERNEL_BUILDER_WRITE_TOKEN": WRITE_TOKEN, "KERNEL_BUILDER_READ_TOKEN": READ_TOKEN}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kernel_builder", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT / "builder"), **(tokens if self.tokens else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self._limit_files if self.file_limit is not None else None,  # noqa: PLW1509 - no threads yet
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        if not lines or '"ok": true' not in "".join(lines):
            raise AssertionError(self._process.communicate()[1])
        self.document = json.loads("".join(lines))
        self.endpoint = self.document["endpoint"]
        self.port = int(self.endpoint.rpartition(":")[2])

    def _limit_files(self) -> None:
        limit = self.file_limit or resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    def kill(self) -> None:
        """End it as a power cut would: without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in order; give its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        self.log.append(process.communicate()[1])
        return process.returncode

    def api(self, token: str | bool | None = None) -> HfApi:
        """The Hub's own client for this registry; who may write, unless another token is given."""
        chosen = (WRITE_TOKEN if self.tokens else False) if token is None else token
        return HfApi(endpoint=self.endpoint, token=chosen)
