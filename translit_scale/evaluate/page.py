"""Headings of the page that `evaluate all` writes, by which others see whether it is complete."""

from __future__ import annotations

NOT_MEASURED, FAILED_JOBS = "not measured:", "failed:"
"""What comes below could not be measured, although it was there."""


def is_complete(page: str) -> bool:
    """Whether everything that was there could be measured, according to the page."""
    return not {NOT_MEASURED, FAILED_JOBS} & set(page.splitlines())
