"""Prepares a shard set from a recipe and text files, on one machine or in a job array."""
