"""The repository names under which the tests ask for the two kernels, and the variable that leads them there."""

from __future__ import annotations

from pathlib import Path

FLASH = "acme/flash-attn-kernel"
"""The FlashAttention functions, under a name that contains "flash"."""

SINKS = "acme/attn-sinks"
"""The kernel with the direct entry `flash_attn_forward`, under a name that does not contain "flash"."""

FLASH_2 = "kernels-community/flash-attn2"
"""What transformers loads for `flash_attention_2` where the package `flash_attn` is not installed."""

FLASH_3 = "kernels-community/vllm-flash-attn3"
"""What transformers loads for `flash_attention_3`, and for GPT-OSS under any other name that contains "flash"."""

NAMELESS = "acme/attention"
"""The FlashAttention functions under a name that hides what they are: the trap that `SINKS` exists for."""


def local_kernels(flash_repository: Path, sinks_repository: Path) -> str:
    """Return the value of `LOCAL_KERNELS` that maps all five names to the two built kernels."""
    targets = {
        FLASH: flash_repository,
        SINKS: sinks_repository,
        FLASH_2: flash_repository,
        FLASH_3: flash_repository,
        NAMELESS: flash_repository,
    }
    return ":".join(f"{name}={path}" for name, path in targets.items())
