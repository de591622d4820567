"""Training objectives: pure functions of tensors, without trainer state."""
