"""Tables printed for people, in the terminal and in Markdown."""

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


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A Markdown table whose columns are aligned, so that it can be read in a terminal, too.

    Args:
        columns: their names; all texts are escaped already.
        left: indices of the columns that are aligned to the left; the others are aligned to the right.
    """
    widths = [max(3, *map(len, column)) for column in zip(columns, *rows, strict=True)]
    rule = ["-" * width if index in left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    lines = [
        [f"{cell:{'<' if index in left else '>'}{widths[index]}}" for index, cell in enumerate(line)]
        for line in (columns, rule, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
