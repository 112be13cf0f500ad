"""Attention with sinks for models: the functions of vllm-flash-attn3, and an attention function for transformers.

transformers binds `flash_attn_forward` as a model's attention because this module has `supports_flash_attn` and has
no `flash_attn_varlen_func`, whose presence would make it wrap that function instead and decide by the repository's
name how caches and masks look. That function stands beside the others in `flash_attn3_interface`.
"""

from . import layers
from .flash_attn3_interface import (
    flash_attn_combine,
    flash_attn_func,
    flash_attn_qkvpacked_func,
    flash_attn_with_kvcache,
    get_scheduler_metadata,
)
from .model_attention import flash_attn_forward

supports_flash_attn = True
"""Says to transformers that `flash_attn_forward` is an attention function."""

__all__ = [
    "flash_attn_combine",
    "flash_attn_forward",
    "flash_attn_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_with_kvcache",
    "get_scheduler_metadata",
    "layers",
    "supports_flash_attn",
]
