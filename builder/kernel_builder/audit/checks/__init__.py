"""The checks by theme: pure functions from what was read to findings. Each module names the `RULES` it applies."""
