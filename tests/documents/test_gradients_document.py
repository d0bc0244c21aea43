"""docs/gradients.md: its sessions print what they show, and its quotations stand in the code."""

import ast
import doctest
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "gradients.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# [`function`](file): and the block of lines that it contains.
QUOTATION = re.compile(r"^\[`([\w.]+)`\]\(([^)#]+\.py)\):\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SESSIONS = [block for block in BLOCK.findall(TEXT) if block.startswith(">>>")]
QUOTATIONS = QUOTATION.findall(TEXT)


def lines_of(path, name):
    """The stripped lines of a function, or of the method `Class.function`, that stands in a file."""
    source = path.read_text(encoding="utf-8")
    node = ast.parse(source)
    for part in name.split("."):
        (node,) = (child for child in node.body if getattr(child, "name", None) == part)
    return [line.strip() for line in ast.get_source_segment(source, node).splitlines()]


def test_every_block_is_a_session_or_a_quotation():
    assert len(SESSIONS) + len(QUOTATIONS) == len(BLOCK.findall(TEXT)) == TEXT.count("```python")


@pytest.mark.parametrize("name, file, lines", QUOTATIONS, ids=[f"{file}:{name}" for name, file, _ in QUOTATIONS])
def test_quoted_lines_stand_in_the_function_in_this_order(name, file, lines):
    remaining = iter(lines_of(DOCUMENT.parent / file, name))
    for line in lines.splitlines():
        assert line.strip() in remaining, f"{file} has no such line in {name}, or not there: {line}"


def test_sessions_print_what_they_show():
    example = doctest.DocTestParser().get_doctest("\n".join(SESSIONS), {}, DOCUMENT.name, str(DOCUMENT), 0)
    report = []
    results = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert results.attempted > 0
    assert not results.failed, "".join(report)


def test_bold_figures_are_printed_by_a_session():
    printed = "\n".join(example.want for example in doctest.DocTestParser().get_examples("\n".join(SESSIONS)))
    figures = re.findall(r"\*\*(\d[^*]*)\*\*", BLOCK.sub("", TEXT))
    assert figures
    for figure in figures:
        assert figure in printed, f"no session prints {figure}"


def test_links_lead_somewhere():
    titles = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    chapters = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", BLOCK.sub("", TEXT)):
        found = target[1:] in chapters if target.startswith("#") else (DOCUMENT.parent / target).exists()
        assert found, f"{target} leads nowhere"
