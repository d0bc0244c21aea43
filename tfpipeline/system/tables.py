"""Figures and tables: for the terminal, as JSON, as csv."""

import csv
import io
import json
import math
import pathlib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence

from tfpipeline.system.files import write_file


def _row(cells):
    """A row without its end; the writer quotes those characters alone that may end its rows."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


# What a spreadsheet may take for a formula (OWASP, "CSV injection"); quotes before it, so that every text comes back.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def escape_formula(cell: typing.Any) -> typing.Any:
    """The cell of a table for a spreadsheet: a text that it would compute as a formula gets a "'" before it.

    Numbers stay as they are, as texts as well: computing -0.5 gives -0.5.
    """
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell) else cell


def unescape_formula(text: str) -> str:
    """The text of which `escape_formula` made this one."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) and not _is_number(text[1:]) else text


def _is_number(text):
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf|[+-]?nan", text) is not None


def write_csv(
    path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]], line_end: str = "\n"
) -> None:
    """Writes a csv file, whole or not at all, with no formula in it.

    Args:
        path: the file.
        header: the names of the columns.
        rows: the values of each row; None is an empty cell, and a float has all its digits.
        line_end: what ends a row.
    """
    text = io.StringIO(newline="")
    for row in (header, *rows):
        text.write(_row(map(escape_formula, row)) + line_end)
    write_file(path, text.getvalue().encode())


def to_json(value: typing.Any, indent: int | None = None) -> str:
    """The value as JSON, with null for NaN and infinities, for which JSON has no word.

    Args:
        value: of dicts, lists, tuples, texts and numbers; what JSON does not know, such as a path, becomes a text.
        indent: spaces a level, on lines of their own; None for one line.
    """
    return json.dumps(_without_nan(value), indent=indent, default=str, allow_nan=False)


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
