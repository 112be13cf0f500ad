"""The place where FlashAttention keeps its layers; here it holds the rotary embedding alone."""
