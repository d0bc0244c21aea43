"""CONTRIBUTING.md: the files that it names are there, with what it says is in them, and its lists are short."""

import pathlib
import re

import pytest

from tests.support.quotations import assert_quoted, find_definition, quotations_in

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENT = ROOT / "CONTRIBUTING.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
# A path has a slash, or is a file at the top.
PATHS = sorted(set(re.findall(r"`(\.?[\w-]+(?:/[\w.-]*)+|[\w.-]+\.(?:md|txt|toml|yaml))`", PROSE)))
DEFINITIONS = sorted(set(re.findall(r"`([\w.]+)` in\s+`([\w/]+\.py)`", PROSE)))
QUOTATIONS = quotations_in(DOCUMENT)


def chapter(title: str) -> str:
    """The text below a title, to the next title of its level or a higher one."""
    level = title.split(" ")[0]
    return re.split(rf"^#{{1,{len(level)}}} ", TEXT.split(f"\n{title}\n")[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_named_is_there(path):
    assert (ROOT / path).is_dir() == path.endswith("/")
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("name", "path"), DEFINITIONS, ids=[name for name, _ in DEFINITIONS])
def test_a_name_is_defined_where_it_says(name, path):
    find_definition(ROOT / path, name)


@pytest.mark.parametrize(("name", "path", "lines"), QUOTATIONS, ids=[name for name, _, _ in QUOTATIONS])
def test_quoted_lines_stand_in_the_code(name, path, lines):
    assert_quoted(path, name, lines)


def test_every_block_of_code_is_a_quotation():
    assert len(QUOTATIONS) == TEXT.count("```python") > 0


def test_the_walk_has_ten_steps_and_names_one_file_in_each():
    steps = re.findall(r"^\d+\. (.*)$", chapter("## The walk of an image"), re.MULTILINE)
    files = [re.findall(r"`([\w/]+\.py)`", step) for step in steps]
    assert len(steps) == 10
    assert all(len(named) == 1 for named in files)
    assert len({named[0] for named in files}) == 10


@pytest.mark.parametrize("title", re.findall(r"^### .*$", TEXT, re.MULTILINE))
def test_what_may_be_added_takes_ten_lines(title):
    lines = [line for line in chapter(title).splitlines() if line]
    assert 0 < len(lines) <= 10
