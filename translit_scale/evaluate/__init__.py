"""Measures any Hugging Face encoder: sentence retrieval and zero-shot transfer."""
