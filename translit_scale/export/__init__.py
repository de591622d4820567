"""Exports a trained model as a Hugging Face folder that other programs load."""
