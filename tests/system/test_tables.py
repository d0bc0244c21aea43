"""Tables as they are printed and written."""

import csv

import pytest

from tfpipeline.system import print_figures, print_table, write_csv


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
