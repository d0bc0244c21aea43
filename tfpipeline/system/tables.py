"""Tables: figures and rows for the terminal, rows as csv."""

import csv
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from tfpipeline.system.files import write_file


def write_csv(
    path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]], line_end: str = "\n"
) -> None:
    """Writes a csv file, whole or not at all.

    Args:
        path: the file.
        header: the names of the columns.
        rows: the values of each row; None is an empty cell, and a float has all its digits.
        line_end: what ends a row.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator=line_end)
    table.writerow(header)
    table.writerows(rows)
    write_file(path, text.getvalue().encode())


def print_figures(figures: Mapping[str, object]) -> None:
    """Prints a line for each figure: its name in words, and its value, a float to four decimals."""
    print_table((name.replace("_", " "), _text(value)) for name, value in figures.items())


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of as many cells each: the first column flush left, the others flush right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *aligned]))


def _text(value):
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}" if isinstance(value, float) else str(value)
