"""Between padded batches and packed tokens, with the names and results of `flash_attn.bert_padding`."""

from __future__ import annotations

import torch


def index_first_axis(values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return the rows of `values` (rows, ...) that `indices` (picked,) names, in that order."""
    return values.index_select(0, indices)


def index_put_first_axis(values: torch.Tensor, indices: torch.Tensor, first_axis_dim: int) -> torch.Tensor:
    """Return (first_axis_dim, ...) zeros with the rows of `values` (picked, ...) written at `indices` (picked,)."""
    output = values.new_zeros((first_axis_dim, *values.shape[1:]))
    return output.index_copy(0, indices, values)


def unpad_input(
    hidden_states: torch.Tensor, attention_mask: torch.Tensor, unused_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """Pack the tokens that a padding mask names.

    hidden_states: (batch, seqlen, ...). attention_mask: (batch, seqlen), bool or 0/1, of the valid tokens.
    unused_mask: same shape, of tokens that keep their place without being valid.
    Returns the packed tokens (total, ...), their indices in the flattened batch (total,), the cumulative lengths
    (batch + 1,) as int32, the longest length as int, and the number of valid tokens per sequence (batch,) as int32.
    """
    kept = attention_mask if unused_mask is None else attention_mask + unused_mask
    lengths = kept.sum(dim=-1, dtype=torch.int32)
    used = attention_mask.sum(dim=-1, dtype=torch.int32)
    indices = torch.nonzero(kept.flatten()).flatten()
    longest = int(lengths.max()) if lengths.numel() else 0
    cu_seqlens = torch.nn.functional.pad(torch.cumsum(lengths, dim=0, dtype=torch.int32), (1, 0))
    return index_first_axis(hidden_states.flatten(0, 1), indices), indices, cu_seqlens, longest, used


def pad_input(hidden_states: torch.Tensor, indices: torch.Tensor, batch: int, seqlen: int) -> torch.Tensor:
    """Undo `unpad_input`: return (batch, seqlen, ...) with zeros where no token is.

    hidden_states: (total, ...). indices: (total,), as `unpad_input` returned them.
    """
    padded = index_put_first_axis(hidden_states, indices, batch * seqlen)
    return padded.unflatten(0, (batch, seqlen))
