"""Training on the DeepSpeed engine: launching, loop, step, metrics, checkpoints."""
