"""Looks inside encoders: the four similarities of paper A."""
