"""The folder of the project, and the commands that its documents give."""

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[2]


def commands(text: str) -> list[list[str]]:
    """The arguments of every `python -m jobs.NAME ...` in a document, from the job's name on."""
    joined = text.replace("\\\n", " ")
    return [
        shlex.split(line, comments=True)
        for line in re.findall(r"^\s*(?:\S+=\S+ )*python -m jobs\.(\w.*)$", joined, re.M)
    ]
