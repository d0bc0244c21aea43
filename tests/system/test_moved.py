"""Old names of modules import what lies under the new ones, and say so."""

import importlib
import subprocess
import sys

import pytest

from tests.support.repository import ROOT
from tfpipeline.system.moved import MOVED, RENAMED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_new_module_with_a_warning(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {MOVED[old]} now; import from there"):
        module = importlib.import_module(old)
    now = importlib.import_module(MOVED[old])
    public = [name for name in vars(now) if not name.startswith("_")]
    assert public and all(getattr(module, name) is getattr(now, name) for name in public)
    assert all(getattr(module, before) is getattr(now, after) for before, after in RENAMED.get(old, {}).items())


def test_no_old_name_hides_a_module_that_there_is():
    assert not [old for old in MOVED if (ROOT / f"{old.replace('.', '/')}.py").exists()]


@pytest.mark.parametrize(
    "old",
    [
        "tfpipeline.archives",
        "labeling.label_spec",
        pytest.param("models.activations", marks=pytest.mark.slow),  # Needs TensorFlow.
        "jobs.training_data",
    ],
)
def test_an_old_name_imports_in_a_new_process(old):
    assert old in MOVED
    done = subprocess.run(
        [sys.executable, "-c", f"import {old}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
