"""`python -m kernel_builder`: the same as the command `kernel-builder`."""

from __future__ import annotations

from kernel_builder.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
