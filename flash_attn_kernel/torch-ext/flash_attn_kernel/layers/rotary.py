"""The rotary embedding under the module name of FlashAttention."""

from ..rotary import apply_rotary_emb

__all__ = ["apply_rotary_emb"]
