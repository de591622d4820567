"""Measures of any Hugging Face encoder: retrieval over parallel text."""
