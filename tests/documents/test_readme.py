"""What the documents tell to run are commands of this program, with flags that it has; what they link is there."""

import importlib
import re
import shlex

import pytest

from jobs import command
from tests.support.repository import ROOT, commands
from tfpipeline.system import FlagError

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    ("document", "line"),
    [(path.name, line) for path in DOCUMENTS for line in commands(path.read_text())],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60],
)
def test_a_documented_command_has_these_flags(document, line):
    job = importlib.import_module(f"jobs.{line[0]}")
    recall = job.recall if "--recipe" in line else None  # A run that is not there it could not ask.
    command.parse(job.Config, line[1:], line[0], job.EXAMPLE, recall)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_the_example_of_a_job_has_its_flags(path):
    job = importlib.import_module(f"jobs.{path.stem}")
    for example in getattr(job, "EXAMPLE", "").splitlines():
        words = shlex.split(example)
        assert words[:3] == ["python", "-m", f"jobs.{path.stem}"]
        command.parse(job.Config, words[3:], path.stem, job.EXAMPLE)


def test_a_wrong_flag_in_a_document_is_found():
    (line,) = commands("text\n\n    python -m jobs.evaluate --run x --imags shapes\n")
    with pytest.raises(FlagError, match="there is no flag --imags; did you mean --images"):
        test_a_documented_command_has_these_flags("", line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        assert target.startswith("http") or (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("package", ["jobs", "labeling", "models", "tfpipeline"])
def test_the_map_shows_every_room(package):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Map of the code")[1]
    for door in (ROOT / package).rglob("__init__.pyi"):
        room = f"{door.parent.relative_to(ROOT).as_posix()}/"
        assert f"[{room}]({room})" in text, f"the map of the code in CONTRIBUTING.md has no row for {room}"
