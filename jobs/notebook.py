"""Jobs as functions, for notebooks and other programs: `call` runs one, `history` gives what a run recorded."""

import importlib
import pathlib
from typing import Any

import numpy as np

from jobs import command
from tfpipeline.system import flags
from tfpipeline.training import run_directory


def call(job: str, **values: Any) -> dict[str, Any]:
    """Runs a job in this process and returns its figures; the same call again goes on as the command does.

    Args:
        job: its name, such as "label_imagenet64" or "train".
        **values: its flags, such as images="shapes", resume=True; a list repeats a flag.

    Raises:
        FlagError: a flag is unknown, missing or has a value that cannot be.
        UserError: the job fails; says why.
        Stopped: it was interrupted, with everything saved.
    """
    module = importlib.import_module(f"jobs.{job}")
    words = flags.command_line(values)
    return module.run(command.parse(module.Config, words, job, module.EXAMPLE, getattr(module, "recall", None)))


def history(run: str | pathlib.Path) -> dict[str, np.ndarray]:
    """What a run recorded at the end of each epoch, name -> float64 (epochs,), NaN where a figure is missing.

    Args:
        run: the run directory.

    Raises:
        UserError: there is no finished epoch, or what is there is damaged.
    """
    rows = run_directory.read_history(pathlib.Path(run))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name) for row in rows], np.float64) for name in names}
