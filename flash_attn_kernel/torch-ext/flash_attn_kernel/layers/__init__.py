"""Layers that stand in for those of a model, by name, as `kernels` maps them; and FlashAttention's rotary embedding.

Each class is a stateless `torch.nn.Module`: `kernels` binds its `forward` to a module of the model, whose weights it
reads. Every one has a gradient, and works under `torch.compile`.
"""

from .activation import SiLU, SiluAndMul
from .norm import RMSNorm
from .rotary import RotaryPosEmb

__all__ = ["RMSNorm", "RotaryPosEmb", "SiLU", "SiluAndMul"]
