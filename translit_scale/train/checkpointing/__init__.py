"""Checkpoints: their files, how they are written beside training, and how they are read."""
