"""Transliteration: the sources a recipe can name, and uroman, made many times faster with the same output."""
