"""A sweep: trainings that share flags and differ in a few, as a TOML file tells them."""

import dataclasses
import os
import pathlib
import re
import string
import tomllib
from typing import Any

from jobs.training.config import Config
from tfpipeline.system import FlagError, UserError, flags

_NAME = re.compile(r"[\w.+-]+")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Trainings to compare.

    Attributes:
        about: what the sweep is about, one line.
        shared: the flags of all runs, name -> value.
        changes: of each run, by its name, the flags in which it differs.
    """

    about: str
    shared: dict[str, Any]
    changes: dict[str, dict[str, Any]]


def read_sweep(path: pathlib.Path) -> Sweep:
    """The sweep that a TOML file describes.

    Raises:
        UserError: the file is not there or no TOML.
        FlagError: it is not a sweep, or names what jobs.train does not have.
    """
    try:
        sweep = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--sweep {path} does not exist; see recipes/ for examples") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--sweep {path} is no TOML file: {error}") from error
    about, shared, runs = (sweep.pop(name, default) for name, default in (("about", ""), ("flags", {}), ("runs", {})))
    if sweep or not runs or not all(isinstance(changes, dict) for changes in (shared, *runs.values())):
        raise FlagError(f"--sweep {path} must have `about`, [flags] and [runs] with a table of flags for each run")
    for name in runs:
        if not _NAME.fullmatch(name):
            raise FlagError(f"--sweep {path}: run {name!r} names a directory; use letters, digits and _ . + - only")
    known = {field.name for field in flags.fields_of(Config)} - {"run", "resume", "quiet"}
    for place, changes in {"[flags]": shared, **{f"run {name}": changes for name, changes in runs.items()}}.items():
        for key in changes:
            if key not in known:
                raise FlagError(f"--sweep {path}: {place} has {key!r}, which is no flag that a sweep gives jobs.train")
    return Sweep(
        about, _fill_in_environment(shared), {name: _fill_in_environment(changes) for name, changes in runs.items()}
    )


def _fill_in_environment(values):
    try:
        return {name: _expand(value) for name, value in values.items()}
    except (KeyError, ValueError) as error:
        raise FlagError(f"--sweep: {error.args[0]} stands after a $ but is no environment variable; set it") from error


def _expand(value):
    if isinstance(value, list):
        return [_expand(part) for part in value]
    return string.Template(value).substitute(os.environ) if isinstance(value, str) else value


def command_line_of(values: dict) -> list[str]:
    """The command line of flag values: true is a switch, a list repeats its flag."""
    words = []
    for name, value in values.items():
        word = flags.flag_name(name)
        if isinstance(value, bool):
            words += [word] if value else []
        else:
            for part in value if isinstance(value, list) else [value]:
                words += [word, str(part)]
    return words
