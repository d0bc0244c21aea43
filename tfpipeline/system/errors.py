"""The ways in which a command ends early, each with its exit code; and what a library's error says, in one line."""

import re

_COLOR, _NODE = re.compile(r"\x1b\[[0-9;]*m"), re.compile(r"\{\{.*?\}\}")
_HEADINGS = ("in user code:", "Graph execution error:", "Detected at node", "<stack traces unavailable>", "[[")


class UserError(Exception):
    """One line for the person at the terminal: what is wrong, with the value, and what to do next."""

    exit_code = 1


class FlagError(UserError):
    """A flag has a value that cannot be used, or does not go with another flag."""

    exit_code = 2


class Stopped(Exception):
    """SIGTERM or SIGINT asked for the end and everything is saved: the same command goes on from there."""

    exit_code = 75


def message_of(error: BaseException, letters: int = 200) -> str:
    """What an error of a library says, in one line of at most so many letters; its type where it says nothing.

    TensorFlow and Keras write frames, nodes, arguments and colors into the texts of theirs: these are left out.
    """
    lines = [line.strip() for line in _NODE.sub("", _COLOR.sub("", str(error))).splitlines()]
    frames = [number for number, line in enumerate(lines) if line.startswith('File "')]
    lines = lines[frames[-1] + 2 :] if frames else lines  # A line of code follows each.
    lines = [line for line in lines if line and not line.startswith(_HEADINGS)]
    arguments = next((number for number, line in enumerate(lines) if line.startswith("Arguments received")), None)
    text = " ".join(lines[:arguments]) or type(error).__name__
    return text if len(text) <= letters else f"{text[:letters]}..."
