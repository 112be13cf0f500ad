"""Flash attention with attention sinks, through the functions of FlashAttention 2.

Every name below takes the arguments of the FlashAttention function of that name; the functions that attend also take
the sinks, under any of the names that clients use: `s_aux`, `learnable_sink` or `sinks`. `layers` has what `kernels`
maps a model's own layers to.
"""

from . import layers
from .flash_attn_interface import (
    flash_attn_func,
    flash_attn_varlen_func,
    flash_attn_with_kvcache,
)
from .packed_interface import (
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)
from .raw_interface import bwd, fwd, fwd_kvcache, varlen_bwd, varlen_fwd

__all__ = [
    "bwd",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
    "fwd",
    "fwd_kvcache",
    "layers",
    "varlen_bwd",
    "varlen_fwd",
]
