"""Processes that a launcher has started become ranks, which stop on request and fail with one message."""
