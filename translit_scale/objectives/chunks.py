"""How much of the logits exists at a time. The cost model (`plan/memory.py`) knows these numbers too, without torch."""

CHUNK_TOKENS = 4096
"""Masked tokens of a chunk. Every chunk reads the whole output embedding and adds to its whole gradient, 616 MB in bf16
and 1.2 GB in fp32 for Glot500's vocabulary, so small chunks are slow. (The usual rule, logits of a chunk as large as
its input, would choose 16 tokens.)"""
BIAS_COLUMNS = 8
"""Columns appended to the input of the output embedding where its gradient is computed: ones, which give the gradient
of the bias without another pass over the logits, and zeros, because GPUs multiply aligned rows."""
ALIGNED = 64
"""GPUs multiply matrices with aligned rows, so the vocabulary is padded to a multiple of this. On an H100 the products
of the head over 401,145 pieces (Glot500) run at 96 to 150 TFLOP/s, over 401,152 at 700 to 780 (benchmarks/h100.md)."""
TILE_ELEMENTS = 1 << 24
"""Contrastive logits of a tile: 64 MB in fp32, and three times that while the gradient is computed. Larger tiles are
not faster on a CPU; much smaller ones read and write the gradient of all 2B·d candidate numbers too often."""
