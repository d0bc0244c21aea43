"""A sweep: trainings that share flags and differ in a few, as a TOML file tells them."""

import dataclasses
import os
import pathlib
import re
import string
import tomllib
from typing import Any, Literal

from jobs.training.config import Config
from tfpipeline.system import FlagError, UserError, flags

Scale = Literal["full", "small"]

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"
TRAIN = "train"
_JOBS = (TRAIN, "compare_interpolations")
_NAME = re.compile(r"[\w.+-]+")
_HELD_OUT_SPLITS = {"cifar10": "test", "shapes": "valid"}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Trainings to compare, or one comparison by another job.

    Attributes:
        about: what the sweep is about, one line.
        shared: the flags of all runs, name -> value.
        changes: of each run, by its name, the flags in which it differs.
        job: the job that a run is of; any but `train` is called once, with the shared flags.
    """

    about: str
    shared: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    job: str = TRAIN

    def with_images(self, images: str | None, archives: str | None) -> "Sweep":
        """The same sweep over other images, measured on those of them that are there for it, else on a tenth.

        A sweep of another job keeps its own: its teacher knows no others.

        Args:
            images: their spec; None for those of the sweep.
            archives: the folder with a TFDS source's archives; None for that of the sweep.
        """
        shared = dict(self.shared)
        if self.job == TRAIN and images is not None:
            shared = {name: value for name, value in shared.items() if name not in ("validation_split", "hold_out")}
            split = _HELD_OUT_SPLITS.get(images)
            held_out = {"hold_out": "10%"} if split is None else {"validation_split": split}
            shared |= {"images": images} | held_out
        if self.job == TRAIN and archives is not None:
            shared["archives"] = archives
        return dataclasses.replace(self, shared=shared)


def find_sweep(name: str) -> pathlib.Path:
    """The file of a sweep: a path, or the name of one in recipes/.

    Raises:
        UserError: there is no such file; lists the names.
    """
    path = pathlib.Path(name)
    shipped = RECIPES / f"{name}.toml"
    if path.suffix == ".toml" or not shipped.is_file():
        if path.is_file():
            return path
        names = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise UserError(f"--sweep {name} does not exist; give a .toml file, or one of {names}")
    return shipped


def read_sweep(path: pathlib.Path, scale: Scale = "full") -> Sweep:
    """The sweep that a TOML file describes.

    Args:
        path: of the file.
        scale: small takes the flags of its table [small], too.

    Raises:
        UserError: the file is not there or no TOML.
        FlagError: it is not a sweep, has no such scale, or names what jobs.train does not have.
    """
    try:
        sweep = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--sweep {path} does not exist; see recipes/ for examples") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--sweep {path} is no TOML file: {error}") from error
    about, job = sweep.pop("about", ""), sweep.pop("job", TRAIN)
    shared, small, runs = (sweep.pop(name, {}) for name in ("flags", "small", "runs"))
    if job not in _JOBS:
        raise FlagError(f"--sweep {path}: job is {job!r}; it must be one of {', '.join(_JOBS)}")
    if sweep or bool(runs) != (job == TRAIN) or not all(isinstance(each, dict) for each in (shared, *runs.values())):
        raise FlagError(f"--sweep {path} must have `about`, [flags] and [runs] with a table of flags for each run")
    if scale == "small" and not small:
        raise FlagError(f"--sweep {path} has no table [small]: leave out --scale small")
    for name in runs:
        if not _NAME.fullmatch(name):
            raise FlagError(f"--sweep {path}: run {name!r} names a directory; use letters, digits and _ . + - only")
    if job == TRAIN:
        _check_names(
            path, {"[flags]": shared, "[small]": small, **{f"run {name}": each for name, each in runs.items()}}
        )
    return Sweep(
        about,
        _fill_in_environment(shared | (small if scale == "small" else {})),
        {name: _fill_in_environment(changes) for name, changes in runs.items()},
        job,
    )


def _check_names(path, tables):
    known = {field.name for field in flags.fields_of(Config)} - {"run", "resume", "quiet"}
    for place, changes in tables.items():
        for key in changes:
            if key not in known:
                raise FlagError(f"--sweep {path}: {place} has {key!r}, which is no flag that a sweep gives jobs.train")


def _fill_in_environment(values):
    try:
        return {name: _expand(value) for name, value in values.items()}
    except (KeyError, ValueError) as error:
        raise FlagError(f"--sweep: {error.args[0]} stands after a $ but is no environment variable; set it") from error


def _expand(value):
    if isinstance(value, list):
        return [_expand(part) for part in value]
    return string.Template(value).substitute(os.environ) if isinstance(value, str) else value
