"""Rooms and doors: imports point only downward, a room is entered by its door, and importing has no side effect.

A room is a folder of a package. Its door is the stub `__init__.pyi`, which lists what other rooms may import from it:
names, and files whose names are all public. A room without a stub, such as models/gradients, is open: so are its files.
"""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest

from tests.support.repository import ROOT
from tfpipeline.system import UserError

BELOW = {
    "tfpipeline": set(),
    "labeling": {"tfpipeline"},
    "models": {"tfpipeline"},
    "jobs": {"labeling", "models", "tfpipeline"},
}
# From the ground up: a room imports from lower floors, as far as BELOW lets its package.
FLOORS = (
    ("tfpipeline.system",),
    ("tfpipeline.pictures", "tfpipeline.images"),
    ("tfpipeline.batches",),
    ("tfpipeline.training.distributed",),
    ("tfpipeline.training",),
    ("tfpipeline",),
    ("labeling.labels", "models.gradients"),
    ("labeling.teachers", "models.layers"),
    ("labeling.enlarging", "models"),
    ("labeling.work",),
    ("labeling",),
    ("jobs.labeling", "jobs.training"),
    ("jobs.reports",),
    ("jobs",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The ways to compute one operation have a folder, but belong to the operations.
PART_OF = {"models.gradients.convolution_by": "models.gradients"}
FILES = sorted(path for package in BELOW for path in (ROOT / package).rglob("*.py"))
FOLDERS = sorted({path.parent for path in [*FILES, *(ROOT / "tests").rglob("*.py")]})


def module_of(path: pathlib.Path) -> str:
    """The dotted name of a file or a folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def folder_of(module: str) -> pathlib.Path:
    """Where a folder with this dotted name is, or would be."""
    return ROOT.joinpath(*module.split("."))


def room_of(module: str) -> str:
    """The room that a module is, or in which it is a file."""
    while not (folder_of(module) / "__init__.py").is_file():
        module = module.rpartition(".")[0]
    return PART_OF.get(module, module)


def imports_of(text: str) -> list[tuple[str, str]]:
    """(where from, name) of each import of ours, at the top of a file and inside functions."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name.rpartition(".")[::2] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [(node.module, alias.name) for alias in node.names]
    return [(source, name) for source, name in found if (source or name).split(".")[0] in BELOW]


def exports_of(room: str) -> set[str] | None:
    """The names in the stub of a room; None for an open room."""
    stub = folder_of(room) / "__init__.pyi"
    if not stub.is_file():
        return None
    return {alias.asname or alias.name for node in ast.parse(stub.read_text()).body for alias in node.names}


def faults_of(module: str, text: str) -> list[str]:
    """What is wrong with the imports of a module of this text."""
    faults, room = [], room_of(module)
    for source, name in imports_of(text):
        whole = f"{source}.{name}".removeprefix(".")
        is_module = folder_of(whole).is_dir() or folder_of(whole).with_suffix(".py").is_file()
        other = room_of(whole if is_module else source)
        if other == room:
            continue
        packages = {room.split(".")[0], *BELOW[room.split(".")[0]]}
        if other.split(".")[0] not in packages or FLOOR[other] >= FLOOR[room]:
            faults.append(f"{module} imports {whole}, and {other} is not below {room}")
        exported = exports_of(other)
        # What stands behind the room's own name: nothing, `.name` or `.file.name`.
        behind = whole.removeprefix(other).split(".")[1:]
        if exported is not None and behind and behind[0] not in exported:
            faults.append(f"{module} imports {whole}, which is not in the stub of {other}")
    return faults


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downward_and_go_through_doors(path):
    assert not faults_of(module_of(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        ("models.new", "def f():\n    from jobs import train", "jobs is not below models"),
        ("models.new", "from labeling import labels", "labeling.labels is not below models"),
        ("tfpipeline.batches.new", "import tfpipeline.training", "tfpipeline.training is not below tfpipeline.batches"),
        ("tfpipeline.images.new", "from tfpipeline.pictures import png", "is not below tfpipeline.images"),
        ("models.layers.new", "from models import blocks", "models is not below models.layers"),
        ("labeling.work.new", "from labeling.labels.store import LabelStore", "not in the stub of labeling.labels"),
        ("labeling.work.new", "from labeling.labels import claims", "not in the stub of labeling.labels"),
        ("labeling.work.new", "import labeling.labels.store", "not in the stub of labeling.labels"),
    ],
)
def test_a_wrong_import_is_found(module, line, fault):
    assert fault in " ".join(faults_of(module, line))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("jobs.new", "from tfpipeline import pictures"),
        ("jobs.new", "from tfpipeline.pictures import png"),
        ("jobs.new", "from models import networks"),
        ("jobs.new", "from models.networks import build"),
        ("models.layers.new", "from models.gradients.convolution_by import unfold"),
        ("models.layers.new", "from models.gradients.linear import linear"),
        ("models.new", "from tfpipeline.system import flags"),
        ("models.new", "from tfpipeline.system.flags import flag"),
        ("labeling.labels.new", "from labeling.labels.store import LabelStore"),
        ("labeling.labels.new", "import numpy as np"),
    ],
)
def test_a_right_import_is_none(module, line):
    assert not faults_of(module, line)


def test_every_room_has_its_floor():
    rooms = {room_of(module_of(path)) for path in FILES}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize(("room", "name"), [(room, name) for room in FLOOR for name in sorted(exports_of(room) or ())])
def test_a_room_has_what_its_stub_lists(room, name):
    try:
        assert hasattr(importlib.import_module(room), name)
    except UserError as error:  # A file that needs an optional package says so.
        pytest.skip(str(error))


@pytest.mark.parametrize("folder", FOLDERS, ids=module_of)
def test_a_folder_says_what_lives_there(folder):
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(text.split()) >= 8, f"the docstring of {module_of(folder)} is {text!r}"
    for inner in FOLDERS:
        assert inner.parent != folder or inner.name in text, f"{module_of(folder)} does not name {inner.name}: {text!r}"


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_a_job_starts_without_tensorflow(path):
    code = f"import sys, jobs.{path.stem}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def crowded_functions(text: str) -> list[tuple[str, int, str]]:
    """(name, number of parameters, docstring) of each function with more than six, of a constructor its class's."""
    found = []
    for owner in ast.walk(ast.parse(text)):
        body = getattr(owner, "body", None)
        for node in body if isinstance(body, list) else []:
            if not isinstance(node, ast.FunctionDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            documented = owner if node.name == "__init__" else node
            if count > 6:
                found.append((node.name, count, ast.get_docstring(documented) or ""))
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_more_than_six_parameters_have_a_reason(path):
    for name, count, docstring in crowded_functions(path.read_text(encoding="utf-8")):
        assert "parameters" in docstring, f"{name} has {count} parameters, and its docstring does not say why"
