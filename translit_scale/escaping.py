"""Escapes text from data and users for Markdown, LaTeX and spreadsheets."""

from __future__ import annotations

import re

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip
"""`[` too: after the `\\\\` that ends a table row, LaTeX would read it as an optional argument."""


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def escape_csv(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
