"""Jobs as functions, and the lines of README that a notebook needs."""

import re
import sys
import types

import numpy as np
import pytest

from jobs import notebook
from tests.support.repository import ROOT
from tfpipeline.system import Console, FlagError
from tfpipeline.training import run_directory


def test_a_job_is_called_with_its_flags_or_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPIPELINE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "sheet.png"
    figures = notebook.call("show_augmentation", images="shapes", limit=4, count=2, epochs=1, out=out, quiet=True)
    assert figures["images"] == 2 and out.is_file()
    with pytest.raises(FlagError, match="there is no flag --imags; did you mean --images"):
        notebook.call("show_augmentation", imags="shapes", out=out)


def test_a_history_is_arrays_with_nan_where_nothing_is_known(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5, "validation_top1": None}, {"epoch": 2, "loss": 0.25, "validation_top1": 0.75}]
    run_directory.write_history(tmp_path, rows)
    history = notebook.history(tmp_path)
    np.testing.assert_array_equal(history["loss"], [0.5, 0.25])
    np.testing.assert_array_equal(history["validation_top1"], [np.nan, 0.75])
    assert {array.dtype for array in history.values()} == {np.dtype(float)}


def test_progress_in_a_notebook_is_one_line_below_the_cell(monkeypatch, capsys):
    shell = types.SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    console = Console()
    with console.bar("labeling", 3, "image") as advance:
        console.say("a note")
        advance(3, loss="0.5")
    out, err = capsys.readouterr()
    assert err == "" and "a note" in out and "\r" in out and "100%" in out


@pytest.mark.long
def test_the_lines_in_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFPIPELINE_CACHE", str(tmp_path / "cache"))
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## In a notebook")[1]
    (lines,) = re.findall(r"```python\n(.*?)```", text.split("\n## ")[0], re.S)
    names: dict = {}
    exec(lines.replace("6000", "60").replace("100", "20").replace("epochs=5", "epochs=1"), names)
    assert names["fitted"].history["agreement_top1"] and names["images"].images.shape == (60, 64, 64, 3)
