"""Tables in LaTeX that fit the text of a two-column A4 page in the ACL style, in a size that can be read.

The widths of texts are estimated for Computer Modern; Times, the font of the ACL style, is narrower by a tenth.
Of the sizes of an 11 pt document the largest is taken that needs no more panels than the smallest, \\scriptsize (8 pt).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

TEXT_WIDTH, COLUMN_WIDTH, TEXT_HEIGHT = 453.0, 217.0, 560.0
"""Points (16 cm, 7.7 cm, 24.7 cm of the ACL style, less what the caption needs)."""
SIZES = (("small", 10.0, 4.0), ("footnotesize", 9.0, 3.0), ("scriptsize", 8.0, 3.0), ("scriptsize", 8.0, 1.1))
"""Name, points, and points to the left and right of a column."""
PACKAGES = "\\usepackage{booktabs}"
_WIDTHS = ((".,:;|'fijlt ", 0.34), ("[]()rs", 0.43), ("cez", 0.47), ("0123456789", 0.6), ("+-→mwMW", 0.9))
"""Of letters in Computer Modern at 8 pt, in units of the size; digits in bold."""


@dataclass(frozen=True)
class Row:
    """A line of a table; all texts are LaTeX."""

    label: str
    cells: Sequence[str] = ()
    """One for each column; a row without cells is a title over the whole width."""
    follows: bool = False
    """Continues the row above, so the two stay together."""


@dataclass(frozen=True)
class Panel:
    """Columns below heads of one or more levels, and rows."""

    heads: Sequence[Sequence[str]]
    """For each column its heads from the top; equal neighbours below equal ones are one head over several columns."""
    rows: Sequence[Row]
    align: str = "r"
    labels: Sequence[str] = field(default=("",))
    """Head of the column of labels."""


def float_tables(panels: Sequence[Panel], caption: str, label: str, narrow: bool = False) -> str:
    """The panels as floats, as few as the height of a page allows.

    Args:
        caption: LaTeX; later floats have it with `(continued)`.
        label: of the first float; later ones are `LABEL-2`, ...
        narrow: as wide as a column, if that is wide enough, otherwise as wide as the page.
    """
    panels = [panel for panel in panels if panel.rows]
    narrow = narrow and all(_width(panel, *SIZES[-1][1:]) <= COLUMN_WIDTH for panel in panels)
    name, points, sep, cut = _size(panels, COLUMN_WIDTH if narrow else TEXT_WIDTH)
    pages: list[list[str]] = []
    left = 0.0
    for panel in (part for piece in cut for part in _pages(piece, points)):
        height = _height(panel, points)
        if height > left:
            pages.append([])
            left = TEXT_HEIGHT
        pages[-1].append(_tabular(panel))
        left -= height
    floats = []
    environment = "table" if narrow else "table*"
    for number, tabulars in enumerate(pages, 1):
        more, suffix = (" (continued)", f"-{number}") if number > 1 else ("", "")
        body = "\n\\par\\medskip\n".join(tabulars)
        text = caption if number == 1 else f"{caption.partition('. ')[0].rstrip('.')}{more}."
        floats.append(
            f"\\begin{{{environment}}}[tp]\n\\centering\n\\{name}\n\\setlength{{\\tabcolsep}}{{{sep:g}pt}}\n{body}\n"
            f"\\caption{{{text}}}\n\\label{{tab:{label}{suffix}}}\n\\end{{{environment}}}"
        )
    return "\n".join(floats)


def _size(panels: Sequence[Panel], width: float) -> tuple[str, float, float, list[Panel]]:
    """Size, points, separation, and the panels cut to the width."""
    options = [(*size, [part for panel in panels for part in _cut(panel, width, *size[1:])]) for size in SIZES]
    fewest = len(options[-1][3])
    return next(option for option in options if len(option[3]) <= fewest and _fits(option[3], width, *option[1:3]))


def _fits(panels: Sequence[Panel], width: float, points: float, sep: float) -> bool:
    """Whether all panels are narrow enough; the narrowest size has to do."""
    if (points, sep) == SIZES[-1][1:]:
        return True
    return all(_width(panel, points, sep) <= width for panel in panels)


def _width(panel: Panel, points: float, sep: float) -> float:
    return _label_width(panel, points, sep) + sum(_group_widths(panel, points, sep))


def _cut(panel: Panel, width: float, points: float, sep: float) -> list[Panel]:
    """Panels of as many neighbouring groups of columns as the width allows."""
    room = 0.0
    parts: list[list[int]] = []
    columns = iter(range(len(panel.heads)))
    for (_, group), needed in zip(_groups(panel), _group_widths(panel, points, sep), strict=True):
        if needed > room or not parts:
            parts.append([])
            room = width - _label_width(panel, points, sep)
        parts[-1] += [next(columns) for _ in group]
        room -= needed
    return [
        Panel(
            [panel.heads[index] for index in part],
            [Row(row.label, [row.cells[index] for index in part] if row.cells else (), row.follows)
             for row in panel.rows],
            panel.align, panel.labels,
        )
        for part in parts
    ]  # fmt: skip


def _pages(panel: Panel, points: float) -> list[Panel]:
    """Panels of no more rows than a page has; titles and continued rows stay with what they belong to."""
    most = int(TEXT_HEIGHT / (1.2 * points)) - 2 * len(panel.heads[0]) - 1
    pages: list[list[Row]] = [[]]
    for index, row in enumerate(panel.rows):
        block = 1
        while index + block < len(panel.rows) and (
            panel.rows[index + block].follows or not panel.rows[index + block - 1].cells
        ):
            block += 1
        if len(pages[-1]) + block > most and not row.follows and pages[-1]:
            pages.append([])
        pages[-1].append(row)
    return [Panel(panel.heads, rows, panel.align, panel.labels) for rows in pages]


def _height(panel: Panel, points: float) -> float:
    return 1.2 * points * (len(panel.rows) + 1.3 * len(panel.heads[0]) + 2)


def _groups(panel: Panel) -> list[tuple[str, list[Sequence[str]]]]:
    return [(head, list(group)) for head, group in groupby(panel.heads, key=lambda heads: heads[0])]


def _group_widths(panel: Panel, points: float, sep: float) -> list[float]:
    """Widths of the groups of columns below one head of the first level."""
    columns = [
        max(text_width(text) for text in (heads[-1], *(row.cells[index] for row in panel.rows if row.cells)))
        for index, heads in enumerate(panel.heads)
    ]
    widths, start = [], 0
    for head, group in _groups(panel):
        cells = sum(columns[start : start + len(group)]) * points + 2 * sep * len(group)
        widths.append(max(cells, text_width(head) * points + 2 * sep))
        start += len(group)
    return widths


def _label_width(panel: Panel, points: float, sep: float) -> float:
    labels = [row.label for row in panel.rows if row.cells] + list(panel.labels)
    return max(map(text_width, labels), default=0) * points + sep


def text_width(text: str) -> float:
    """Estimated width of LaTeX text, in its font size."""
    plain = re.sub(r"\\to\b", "→", text)
    plain = re.sub(r"\\(?:[a-z]+\b\s*|(?=[_&%$#{}]))", "", plain)
    return sum(_letter_width(letter) for letter in re.sub(r"[{}$]", "", plain.replace("--", "–")))


def _letter_width(letter: str) -> float:
    """In units of the font size."""
    return next((width for letters, width in _WIDTHS if letter in letters), 0.78 if letter.isupper() else 0.56)


def _tabular(panel: Panel) -> str:
    columns = "".join(panel.align for _ in panel.heads)
    lines = [f"\\begin{{tabular}}{{@{{}}l{columns}@{{}}}}", "\\toprule", *_head_lines(panel), "\\midrule"]
    spaced = any(row.follows for row in panel.rows)
    for index, row in enumerate(panel.rows):
        if spaced and index and row.cells and not row.follows:
            lines.append("\\addlinespace[2pt]")
        if not row.cells:
            lines += ["\\midrule"] if index else []
            lines.append(f"\\multicolumn{{{len(panel.heads) + 1}}}{{@{{}}l}}{{{row.label}}} \\\\*")
        else:
            lines.append(" & ".join([row.label, *row.cells]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _head_lines(panel: Panel) -> list[str]:
    """A line for each level of heads, and rules below heads over several columns."""
    lines = []
    levels = len(panel.heads[0])
    for level in range(levels):
        last = level == levels - 1
        cells, rules, column = [panel.labels[0] if last else ""], [], 2
        for key, group in groupby(panel.heads, key=lambda heads: tuple(heads[: level + 1])):
            span = len(list(group))
            if last:
                cells += [f"\\multicolumn{{1}}{{c}}{{{key[-1]}}}" if panel.align == "r" else key[-1]] * span
            else:
                cells.append(f"\\multicolumn{{{span}}}{{c}}{{{key[-1]}}}")
                rules.append(f"\\cmidrule(lr){{{column}-{column + span - 1}}}")
            column += span
        lines.append(" & ".join(cells) + " \\\\")
        lines += [" ".join(rules)] if rules else []
    return lines
