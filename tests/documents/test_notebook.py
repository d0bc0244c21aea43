"""The Colab notebook runs from its first to its last cell, on small numbers."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.repository import ROOT

NOTEBOOK = ROOT / "notebooks" / "colab.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_holds_no_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_it_defines_nothing(notebook):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "def " not in source and "class " not in source


@pytest.mark.slow
@pytest.mark.long
def test_it_runs_from_the_first_cell_to_the_last(notebook, tmp_path, monkeypatch):
    small = {"TFPIPELINE_WORK": tmp_path / "work", "TFPIPELINE_CACHE": tmp_path / "cache"}
    small |= {"TFPIPELINE_LIMIT": 240, "TFPIPELINE_EPOCHS": 1}
    for name, value in small.items():
        monkeypatch.setenv(name, str(value))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    run = tmp_path / "work" / "run"
    assert (run / "model.keras").is_file()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert f'"run": "{run}"' in printed
    pictures = [output for output in notebook.cells[-1].outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
