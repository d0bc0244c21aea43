"""Tables as they are printed and written."""

import csv
import json

import pytest
from hypothesis import given, strategies

from tfpipeline.system import escape_formula, print_figures, print_table, to_json, unescape_formula, write_csv


def test_figures_stand_below_each_other(capsys):
    print_figures({"top1": 0.51444, "images_labeled": 1_234_567, "seconds": 1234.5, "truth": None, "out": "labels"})
    assert capsys.readouterr().out.splitlines() == [
        "top1                0.5144",
        "images labeled   1,234,567",
        "seconds         1,234.5000",
        "truth                    -",
        "out                 labels",
    ]


def test_columns_are_as_wide_as_their_widest_cells(capsys):
    print_table([("", "images", "share"), ("circle, red", "7", "100.0 %")])
    assert capsys.readouterr().out == "             images    share\ncircle, red       7  100.0 %\n"


def test_rows_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        print_table([("a", "b"), ("c",)])


def test_nothing_prints_nothing(capsys):
    print_figures({})
    assert capsys.readouterr().out == ""


def test_a_csv_gives_back_what_was_written(tmp_path):
    rows = [["a,b", 1 / 3, None, 'say "x"'], ["ü\nline", -0.0, 7, ""]]
    write_csv(tmp_path / "table.csv", ["name", "value", "count", "text"], rows)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["name", "value", "count", "text"],
            ["a,b", repr(1 / 3), "", 'say "x"'],
            ["ü\nline", "-0.0", "7", ""],
        ]
    assert (tmp_path / "table.csv").read_bytes().startswith(b"name,value,count,text\n")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(
    "cell",
    ["=HYPERLINK(0)", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1", "''-a", "-", "+", "-inf+1"],
)
def test_what_a_spreadsheet_would_compute_becomes_text_and_comes_back(tmp_path, cell):
    write_csv(tmp_path / "table.csv", [cell, "b"], [["a", cell]])
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["'" + cell, "b"], ["a", "'" + cell]]
    assert unescape_formula(rows[0][0]) == cell


@pytest.mark.parametrize("cell", [-0.5, -3, "-0.5000", "+1", "-1e-05", "-inf", None, "", "a=b", "'quoted'", "1-2"])
def test_numbers_and_harmless_texts_stay(cell):
    assert escape_formula(cell) is cell


@given(strategies.text("'=+-@1.e \t\ra", max_size=6))
def test_every_text_comes_back(text):
    assert unescape_formula(escape_formula(text)) == text


def test_json_is_always_json():
    value = {"kl": float("nan"), "rows": [float("inf"), -float("inf"), 0.1], "nested": ({"a": float("nan")},), "n": 3}
    for indent in (None, 2):
        found = json.loads(to_json(value, indent), parse_constant=pytest.fail)
        assert found == {"kl": None, "rows": [None, None, 0.1], "nested": [{"a": None}], "n": 3}
