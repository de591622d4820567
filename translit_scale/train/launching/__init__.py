"""From what a launcher has started to ranks that meet, stop on request, and fail with one message."""
