"""What still loads without the Hub, after `cards.py`: `offline.py CARDS_FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kernels import get_kernel, get_locked_kernel, load_kernel

from tests.clients.published import FLASH


def main() -> None:
    lockfile = Path(sys.argv[1]) / "kernels.lock"
    commit = json.loads(lockfile.read_text(encoding="utf-8"))[0]["lock"]["commit"]
    q = torch.randn(1, 3, 2, 8)
    ways: dict[str, Callable[[], Any]] = {
        "version": lambda: get_kernel(FLASH, version=1),
        "commit": lambda: get_kernel(FLASH, revision=commit),
        "locked": lambda: get_locked_kernel(FLASH, lockfile=lockfile),
        "loaded": lambda: load_kernel(FLASH, lockfile=lockfile),
    }
    answers: dict[str, object] = {}
    for name, load in ways.items():
        try:
            answers[name] = list(load().flash_attn_func(q, q, q).shape)
        except ValueError as error:
            answers[name] = str(error)
    sys.stdout.write("\n" + json.dumps(answers))


main()
