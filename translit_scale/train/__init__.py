"""The training loop on the DeepSpeed engine: launch, step, checkpoints, metrics."""
