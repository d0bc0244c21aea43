"""Code that a document quotes: [`function`](file): and, in a block below it, lines of that function."""

import ast
import pathlib
import re

_QUOTATION = re.compile(r"^\[`([\w.]+)`\]\(([^)#]+\.py)\):\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def quotations_in(document: pathlib.Path) -> list[tuple[str, pathlib.Path, list[str]]]:
    """(name, file, lines) of each quotation in a document: a function, or a method `Class.function`, and its lines."""
    found = _QUOTATION.findall(document.read_text(encoding="utf-8"))
    return [(name, document.parent / file, lines.splitlines()) for name, file, lines in found]


def find_definition(path: pathlib.Path, name: str) -> ast.stmt:
    """The function, class or constant, or the method `Class.function`, that a file defines.

    Raises:
        AssertionError: the file does not define it, or twice.
    """
    node = ast.parse(path.read_text(encoding="utf-8"))
    for part in name.split("."):
        found = [child for child in getattr(node, "body", []) if part in _names_of(child)]
        assert len(found) == 1, f"{path} defines {part} {len(found)} times"
        node = found[0]
    return node


def _names_of(node):
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    return [getattr(node, "name", None)]


def assert_quoted(path: pathlib.Path, name: str, lines: list[str]) -> None:
    """Fails unless the lines stand in the definition or its decorators, in this order; others may stand between."""
    node = find_definition(path, name)
    first = min(part.lineno for part in (node, *getattr(node, "decorator_list", [])))
    source = path.read_text(encoding="utf-8").splitlines()[first - 1 : node.end_lineno]
    remaining = iter([line.strip() for line in source])
    for line in lines:
        assert line.strip() in remaining, f"{path} has no such line in {name}, or not there: {line}"
