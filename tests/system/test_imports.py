"""The layers of the program: imports point only downward, and a package's import has no side effect."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BELOW = {
    "tfpipeline": set(),
    "labeling": {"tfpipeline"},
    "models": {"tfpipeline"},
    "jobs": {"labeling", "models", "tfpipeline"},
}


def imported_packages(path: pathlib.Path) -> set[str]:
    """Our packages that a file imports, at its top or inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names & BELOW.keys()


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_downward(package):
    for path in (ROOT / package).rglob("*.py"):
        above = imported_packages(path) - BELOW[package] - {package}
        assert not above, f"{path.relative_to(ROOT)} imports {above}, which stands above {package}"


def test_the_check_sees_an_import_inside_a_function(tmp_path):
    file = tmp_path / "upward.py"
    file.write_text("def f():\n    from jobs import train\n")
    assert imported_packages(file) == {"jobs"}


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_a_job_starts_without_tensorflow(path):
    code = f"import sys, jobs.{path.stem}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
