"""python -m jobs.label_imagenet64: a teacher's answers to images, in a label store."""

from jobs import command
from jobs.labeling import Config
from tfpipeline.system import Console

EXAMPLE = "python -m jobs.label_imagenet64 --images shapes --teacher bundled --out labels/shapes"


def run(config: Config) -> dict:
    """Labels what has no labels yet and returns the figures of all labels."""
    from jobs.labeling import print_status

    if config.mode.status:
        return print_status(config.labels.out)
    command.import_tensorflow()
    from jobs.labeling import build_task, modes

    task = build_task(config, Console(config.quiet))
    if config.mode.dry_run:
        return modes.plan(task)
    return modes.verify(task) if config.mode.verify else modes.label(task)


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
