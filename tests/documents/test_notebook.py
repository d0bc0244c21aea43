"""The Colab notebook runs from its first to its last cell, on small numbers."""

import importlib
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from jobs import command
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


def test_its_commands_have_these_flags(notebook):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    lines = re.findall(r"^ *!\{sys\.executable\} -m jobs\.(.*)$", source, re.M)
    assert len(lines) == 9
    for line in lines:
        name, *words = shlex.split(re.sub(r"\{(LIMIT|EPOCHS)\}", "1", line))
        job = importlib.import_module(f"jobs.{name}")
        command.parse(job.Config, words, name, job.EXAMPLE)


@pytest.fixture
def run_first_cell(notebook, tmp_path, monkeypatch):
    """A function that runs the first cell in an empty folder where modules are missing; gives the commands it ran."""
    given = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda argv, check: given.append(argv))
    find = importlib.util.find_spec

    def run(*missing):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
        (source, *_) = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        exec(source, {})
        return given

    return run


def test_the_first_cell_asks_for_nothing_where_the_program_is(run_first_cell, tmp_path):
    assert run_first_cell() == [] and pathlib.Path.cwd() == tmp_path


def test_the_first_cell_says_what_to_change_where_the_program_is_not(run_first_cell):
    with pytest.raises(SystemExit, match="write the address of its repository into REPOSITORY in this cell"):
        run_first_cell("jobs")


def test_the_first_cell_fetches_the_program_and_keeps_the_tensorflow_of_colab(run_first_cell, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPIPELINE_REPOSITORY", "https://host/project.git")
    monkeypatch.setitem(sys.modules, "google.colab", None)
    (tmp_path / "tfpipeline-project").mkdir()
    clone, install = run_first_cell("jobs")
    assert clone[:2] == ["git", "clone"] and "https://host/project.git" in clone
    assert install[-1].startswith("keras==") and install[-2].startswith("tensorflow==")


def test_the_first_cell_names_the_runtimes_that_have_tensorflow(run_first_cell, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    with pytest.raises(SystemExit, match="no TensorFlow: choose a CPU or GPU"):
        run_first_cell("tensorflow")


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
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert (tmp_path / "work" / "run-photos" / "model.keras").is_file()
    assert list((tmp_path / "work" / "mirror").rglob("step-*.npz"))
