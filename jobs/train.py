"""python -m jobs.train: a student from a teacher's answers; killed at any moment, --resume goes on to the bit."""

import os
import pathlib
from typing import Any

from jobs import command, config_file
from jobs.training import Config
from tfpipeline.system import FlagError, flags
from tfpipeline.training import parse_save_every, run_directory
from tfpipeline.training.distributed import read_cluster

EXAMPLE = "python -m jobs.train --images shapes --labels labels/shapes --validation-split valid --run runs/shapes"


def recall(given: dict[str, str]) -> dict[str, Any]:
    """The flags that are not given: of a recipe, or all of a run that goes on, the network of one that is started from.

    Args:
        given: the flags of the command line, by name. Where --images and --labels are among them, they are all that the
            run is asked for, and are held to what it was.

    Raises:
        FlagError: there is no such recipe, or no run to take them from.
        UserError: what the run says is damaged.
    """
    values: dict[str, Any] = {}
    if "recipe" in given:
        values = config_file.read_recipe(Config, given["recipe"])
        if "images" in given:  # How other images are divided and labeled a recipe does not know.
            values = {name: value for name, value in values.items() if name not in ("labels", "validation_split")}
    elif "resume" in given and "run" in given and not given.keys() & {"images", "labels"}:
        values = _flags_of(given["run"], "--images and --labels")
    if "init" in given and "network" not in given:
        network = _flags_of(given["init"], "--network")
        values |= {name: network.get(name) for name in ("network", "network_options")}
    return values


def _flags_of(directory, missing):
    saved = run_directory.read_config(pathlib.Path(directory))
    if saved is None:
        raise FlagError(f"{directory} has no {run_directory.CONFIG} to take {missing} from; give them")
    known = {field.name for field in flags.fields_of(Config)} - {"run", "resume", "quiet"}
    return {name: value for name, value in saved["flags"].items() if name in known}


def run(config: Config) -> dict:
    """Trains to the last epoch and returns the figures."""
    every = parse_save_every(config.saving.save_every)
    cluster = read_cluster(os.environ) if config.devices.strategy == "multi_worker" else None
    command.import_tensorflow()
    from jobs.training import train

    return train(config, every, cluster)


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE, recall=recall)
