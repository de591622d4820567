"""Sentence retrieval over parallel text, and the choice of a checkpoint by it."""
