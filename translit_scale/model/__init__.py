"""The encoder, its packed attention, its families, and what a step of it costs."""
