"""python -m jobs.train: a student from a teacher's answers; killed at any moment, --resume goes on to the bit."""

import os

from jobs import command
from jobs.training import Config
from tfpipeline.training import parse_save_every
from tfpipeline.training.distributed import read_cluster

EXAMPLE = "python -m jobs.train --images shapes --labels labels/shapes --validation-split valid --run runs/shapes"


def run(config: Config) -> dict:
    """Trains to the last epoch and returns the figures."""
    every = parse_save_every(config.saving.save_every)
    cluster = read_cluster(os.environ) if config.devices.strategy == "multi_worker" else None
    command.import_tensorflow()
    from jobs.training import train

    return train(config, every, cluster)


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
