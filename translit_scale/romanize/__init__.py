"""Romanization with uroman, byte for byte the same and many times faster: `exact.py`, `cuts.py`, `characters.py`."""
