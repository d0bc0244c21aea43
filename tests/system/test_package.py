"""The wheel: all that runs is in it, it asks for what the requirement files name, and its jobs start from anywhere."""

import email
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT

pytestmark = pytest.mark.slow
CODE = ("tfpipeline", "labeling", "models", "jobs")
PACKAGES = (*CODE, "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder into which the wheel was unpacked, as pip does it; built from a copy, which nothing old lies in."""
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, copy)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    built = tmp_path_factory.mktemp("built")
    subprocess.run([*pip, "--wheel-dir", built, copy], check=True)
    (file,) = built.glob("tfpipeline-*.whl")
    unpacked = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(file).extractall(unpacked)
    return unpacked


def files_below(folder):
    """Every file of our packages below a folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for package in PACKAGES
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    files = files_below(wheel)
    assert files == files_below(ROOT)
    assert "labeling/teachers/bundled/variables/variables.index" in files
    assert {f"{package}/py.typed" for package in CODE} < set(files)
    assert {"recipes/exp1_1.toml", "recipes/training/cifar10-93.toml"} < set(files)


def name_and_versions(requirement):
    """A requirement, however its name is written."""
    return canonicalize_name(requirement.name), str(requirement.specifier)


@pytest.mark.parametrize(("file", "extra"), [("requirements.txt", None), ("requirements-extras.txt", "extras")])
def test_the_wheel_requires_what_the_file_names(wheel, file, extra):
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    named = {name_and_versions(Requirement(line)) for line in lines if line}
    (metadata,) = wheel.glob("tfpipeline-*.dist-info/METADATA")
    texts = email.message_from_string(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist")
    marker = None if extra is None else Marker(f'extra == "{extra}"')
    required = {name_and_versions(each) for each in map(Requirement, texts) if each.marker == marker}
    assert named
    assert required == named


def test_a_job_of_the_wheel_starts_from_any_directory(wheel, tmp_path):
    def printed(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(wheel)}
        return subprocess.check_output([sys.executable, *arguments], cwd=tmp_path, env=environment, text=True)

    assert pathlib.Path(printed("-c", "import jobs; print(jobs.__path__[0])").strip()) == wheel / "jobs"
    assert "--labels" in printed("-m", "jobs.train", "--help")
