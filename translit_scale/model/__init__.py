"""The encoder, its packed attention and the passes of the training step."""
