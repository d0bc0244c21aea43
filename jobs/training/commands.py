"""The commands that repeat a training and a labeling, as a person types them."""

import pathlib
import shlex

from jobs.training.config import Config
from labeling.labels import read_flags
from tfpipeline.system import flags


def training_command(values: dict) -> str:
    """The command that begins a run again: what differs from the defaults, but for the cache.

    Args:
        values: the flags in config.json of the run, name -> value for JSON.
    """
    defaults = {field.name: field.default for field in flags.fields_of(Config)}
    told = {
        name: value
        for name, value in values.items()
        if name in defaults
        and name not in ("cache", "resume", "quiet")
        and (tuple(value) if isinstance(value, list) else value) not in (defaults[name], None)
    }
    return shlex.join(["python", "-m", "jobs.train", *flags.command_line(told)])


def labeling_command(labels: str | None) -> str | None:
    """The command that makes labels again; None where they do not say it.

    Args:
        labels: a label store, or what is none.

    Raises:
        UserError: what the labels say of it is damaged.
    """
    told = None if labels is None else read_flags(pathlib.Path(labels))
    if told is None:
        return None
    words = flags.command_line({name: value for name, value in told.items() if name != "cache"} | {"out": labels})
    return shlex.join(["python", "-m", "jobs.label_imagenet64", *words])
