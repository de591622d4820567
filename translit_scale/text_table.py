"""Tables printed for people."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, rule: bool = True) -> str:
    """Aligned columns.

    Args:
        left: number of columns that are aligned to the left; the others are aligned to the right.
        rule: draws a line below the column names.
    """
    table = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if rule:
        table.insert(1, ["-" * width for width in widths])
    line = "  ".join(f"{{:{'<' if index < left else '>'}{width}}}" for index, width in enumerate(widths))
    return "\n".join(line.format(*cells).rstrip() for cells in table)
