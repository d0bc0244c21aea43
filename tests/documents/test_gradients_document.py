"""docs/gradients.md: its sessions print what they show, and its quotations stand in the code."""

import doctest
import re

import pytest

from tests.support.quotations import assert_quoted, quotations_in
from tests.support.repository import ROOT

DOCUMENT = ROOT / "docs" / "gradients.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SESSIONS = [block for block in BLOCK.findall(TEXT) if block.startswith(">>>")]
QUOTATIONS = quotations_in(DOCUMENT)


def test_every_block_is_a_session_or_a_quotation():
    assert len(SESSIONS) + len(QUOTATIONS) == len(BLOCK.findall(TEXT)) == TEXT.count("```python")


@pytest.mark.parametrize(
    ("name", "path", "lines"), QUOTATIONS, ids=[f"{path.stem}:{name}" for name, path, _ in QUOTATIONS]
)
def test_quoted_lines_stand_in_the_function_in_this_order(name, path, lines):
    assert_quoted(path, name, lines)


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
