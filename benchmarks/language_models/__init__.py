"""What `causal_lm.py` measures: generation, training, and the time until a kernel can be used."""
