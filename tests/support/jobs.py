"""A small run of jobs.train, given as an argument list, in this process or in a child."""

import json

from jobs import command, train

FLAGS = {
    "images": "shapes",
    "limit": 64,
    "size": 16,
    "validation-limit": 24,
    "labels": "truth",
    "network": "conv_classifier",
    "network-options": ["filters_per_layer=4", "hidden_dims=8", "batch_norm=true", "dropout=0.3"],
    "epochs": 4,
    "batch-size": 8,
    "augment": "flip,translate:2",
    "save-every": 2,
}


def argv_of(cache, directory, *switches, **changes):
    """The flags of a small run, with changes, as an argument list."""
    values = {**FLAGS, "cache": cache, "run": directory}
    values |= {name.replace("_", "-"): value for name, value in changes.items()}
    pairs = [(name, one) for name, value in values.items() for one in (value if isinstance(value, list) else [value])]
    return [*(text for name, value in pairs for text in (f"--{name}", str(value))), *switches]


def call(argv):
    """Runs the command, and ends the process with its exit code."""
    command.main(train.Config, train.run, train.EXAMPLE, argv)


def run_job(argv):
    """Runs the command; returns only at exit code 0."""
    try:
        call(argv)
    except SystemExit as end:
        if end.code:
            raise


def figures_of(child):
    """What a child that ran the command printed last."""
    return json.loads(child.said().splitlines()[-1])
