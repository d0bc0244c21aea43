"""Flags that stand in a file in the place of the command line: --config FILE, a TOML file or a run's config.json."""

import difflib
import pathlib
import tomllib
from collections.abc import Sequence
from typing import Any

from tfpipeline.system import FlagError, UserError, flags
from tfpipeline.training import run_directory

CONFIG = "--config"
RECIPES = pathlib.Path(__file__).parents[1] / "recipes" / "training"


def given_flags(words: Sequence[str]) -> dict[str, str]:
    """The flags on a command line, by the names of their fields, with their last values as written; "" of a switch."""
    given: dict[str, str] = {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            following = words[number + 1] if number + 1 < len(words) else ""
            text = value if equals else "" if following.startswith("--") else following
            given[_field(name)] = text
    return given


def add_missing(words: Sequence[str], values: dict[str, Any]) -> list[str]:
    """A command line with flags for those of the values that it does not give."""
    given = given_flags(words)
    return [*flags.command_line({name: value for name, value in values.items() if name not in given}), *words]


def fill_in(config_class: type[flags.Flags], words: Sequence[str]) -> list[str]:
    """A command line with the flags of the file that its --config names, where it does not give them itself.

    Args:
        config_class: of the job.
        words: the command line.

    Raises:
        FlagError: the file has what is no flag of the job, or no file is named.
        UserError: the file cannot be read.
    """
    left, paths = [], []
    following = iter(words)
    for word in following:
        if word.partition("=")[0] == CONFIG:
            paths.append(word.partition("=")[2] or next(following, ""))
        else:
            left.append(word)
    if not paths:
        return left
    if len(paths) > 1 or not paths[0]:
        raise FlagError(f"{CONFIG} is given {'more than once' if len(paths) > 1 else 'without a file'}; name one file")
    path = pathlib.Path(paths[0])
    known = [field.name for field in flags.fields_of(config_class)]
    values = _read_run(path, known) if path.name == run_directory.CONFIG else _read_toml(path, known)
    return add_missing(left, values)


def read_recipe(config_class: type[flags.Flags], name: str) -> dict[str, Any]:
    """The flags of a recipe, by the names of their fields.

    Args:
        config_class: of the job.
        name: of the file in recipes/training, without its suffix.

    Raises:
        FlagError: there is no such recipe; lists those that there are.
    """
    recipes = {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}
    if name not in recipes:
        raise FlagError(f"--recipe {name}: there is no such recipe; choose one of {', '.join(recipes)}")
    return _read_toml(recipes[name], [field.name for field in flags.fields_of(config_class)])


def _read_run(path, known):
    """The flags that a run says it had; of a job that reads runs, the run itself."""
    saved = run_directory.read_config(path.parent)
    if saved is None:
        raise UserError(f"{CONFIG} {path} does not exist; give the config.json of a run, or a TOML file")
    if "run" in known and "resume" not in known:
        return {"run": str(path.parent)}
    return {name: value for name, value in saved["flags"].items() if name in known and name != "resume"}


def _read_toml(path, known):
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{CONFIG} {path} does not exist; give a TOML file, or the config.json of a run") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{CONFIG} {path} is no TOML file: {error}") from error
    values = {_field(name): value for name, value in table.items()}
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            rather = f"did you mean {close[0]}?" if close else "its names are those of the flags"
            raise FlagError(f"{CONFIG} {path}: there is no flag {name}; {rather}")
        if isinstance(value, dict):
            raise FlagError(f"{CONFIG} {path}: {name} is a table; write {name} = VALUE")
    return values


def _field(name):
    """The name of the field of a flag, however it is spelled."""
    return name.removeprefix("--").replace("-", "_")
