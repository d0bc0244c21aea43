"""python -m jobs.experiment: a named sweep of trainings that differ in a few flags, as a table and a picture.

`python -m jobs.experiment run-exp -n NAME -K 32 64 -L 2 -P 2 -H 100` trains one network of the courses.
"""

import dataclasses
import importlib
import itertools
import os
import pathlib
import shlex
import sys
from typing import Any, Literal

from jobs import command
from jobs.processes import run_job
from jobs.training import TRAIN, Scale, Sweep, find_sweep, read_sweep
from tfpipeline.system import UserError, flags
from tfpipeline.system.flags import Flags, Range, flag, part, required
from tfpipeline.training import run_directory

DIVERGED = "diverged_at_step"
RUN_ONE = "run-exp"
EXAMPLE = "python -m jobs.experiment --sweep exp1_1 --scale small"
EXAMPLE_OF_ONE = "python -m jobs.experiment run-exp -n test -K 32 64 -L 2 -P 2 -H 100 --scale small"
# As the courses write them.
SHORT = {
    "-n": "--run-name",
    "-K": "--filters-per-layer",
    "-L": "--layers-per-block",
    "-P": "--pool-every",
    "-H": "--hidden-dims",
    "-M": "--model-type",
}
_COUNT = Range(at_least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFlags(Flags):
    """How large the runs are, and what they see."""

    scale: Scale = flag("full", "small: as the table [small] says, minutes on 2 cores")
    images: str | None = flag(
        None,
        "other images than those of the sweep, such as shapes, which need no download, or cifar10",
        metavar="SPEC",
    )
    archives: str | None = flag(None, "as of jobs.train", metavar="DIR")
    repeat_diverged: bool = flag(
        False, "begin runs again whose loss was not finite any more; what they left is set aside"
    )
    quiet: bool = flag(False, "no progress")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Trains the runs of a sweep one after another and compares them. The same command again goes on.

    A sweep is a TOML file: `about`, one line; the table `[flags]` with the flags of jobs.train that all runs share; in
    `[small]` what --scale small changes of them; and in `[runs]` for each name the flags in which it differs. $NAME in
    a value is the environment variable of that name. `run-exp` in the place of the flags trains one network of the
    courses: `run-exp --help`.
    """

    sweep: str = required("a name in recipes/, such as exp1_1, or a .toml file", metavar="NAME")
    out: str | None = flag(
        None,
        "directory of the runs, of table.md, table.csv and curves.png, by default runs/NAME, and runs/NAME-small",
        metavar="DIR",
    )
    runs: SweepFlags = part(SweepFlags)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRun(Flags):
    """Trains one network of the courses: [(conv -> act)*P -> pool]*(N/P) -> (fc -> act)*M -> fc, N = L * len(K).

    Of the resnet, P convolutions have one shortcut around them.
    """

    run_name: str = required("-n: what the run is called", metavar="NAME")
    filters_per_layer: tuple[int, ...] = required("-K: filters of each block; may be repeated, or: -K 32 64")
    layers_per_block: int = flag(2, "-L: convolutions in a block", within=_COUNT)
    pool_every: int = flag(2, "-P: convolutions between poolings", within=_COUNT)
    hidden_dims: tuple[int, ...] = flag((), "-H: units of each hidden layer; may be repeated, or: -H 100 50")
    model_type: Literal["cnn", "resnet"] = flag("cnn", "-M: which network")
    epochs: int | None = flag(None, "of the training, by default those of exp1_1", metavar="N", within=_COUNT)
    out: str = flag("runs", "the run, its table and its picture go to OUT/NAME", metavar="DIR")
    runs: SweepFlags = part(SweepFlags)

    @property
    def network(self) -> dict:
        """The flags of jobs.train for the network."""
        options = {
            "filters_per_layer": self.filters_per_layer,
            "layers_per_block": (self.layers_per_block,),
            "pool_every": (self.pool_every,),
            "hidden_dims": self.hidden_dims,
        }
        words = [f"{name}={','.join(map(str, values))}" for name, values in options.items()]
        if self.model_type == "cnn":
            return {"network": "conv_classifier", "network_options": words}
        return {"network": "resnet_classifier", "network_options": [*words, "shortcut=pool"]}


def run(config: Config) -> dict:
    """Trains what is not trained yet, writes the table and the picture, and returns the figures."""
    path, wanted = find_sweep(config.sweep), config.runs
    sweep = read_sweep(path, wanted.scale).with_images(wanted.images, wanted.archives)
    out = pathlib.Path(config.out or f"runs/{path.stem}{'-small' if wanted.scale == 'small' else ''}")
    if sweep.job != TRAIN:
        job = importlib.import_module(f"jobs.{sweep.job}")
        words = flags.command_line(sweep.shared | {"out": str(out), "quiet": wanted.quiet})
        return job.run(command.parse(job.Config, words, f"python -m jobs.{sweep.job}", job.EXAMPLE))
    return train_all(sweep, out, wanted, _command_of(config))


def _command_of(config, *words):
    """The command that gives these flags."""
    told = {name: value for name, value in flags.told_by(config).items() if name != "quiet"}
    return shlex.join(["python", "-m", "jobs.experiment", *words, *flags.command_line(told)])


def run_one(config: OneRun) -> dict:
    """Trains one network of the courses as the runs of exp1_1 are, and returns the figures."""
    wanted = config.runs
    like = read_sweep(find_sweep("exp1_1"), wanted.scale).with_images(wanted.images, wanted.archives)
    shared = like.shared | ({} if config.epochs is None else {"epochs": config.epochs})
    about = f"{config.run_name}: one network"
    sweep = Sweep(about, shared, {config.run_name: config.network})
    return train_all(sweep, pathlib.Path(config.out), wanted, _command_of(config, RUN_ONE))


def train_all(sweep: Sweep, out: pathlib.Path, wanted: SweepFlags, repeating: str) -> dict:
    """Trains what is not trained yet, writes the table and the picture, and returns the figures.

    Args:
        sweep: what to train.
        out: the directory of the runs.
        wanted: the flags.
        repeating: the command that was given.
    """
    from jobs.reports import sweep as reports

    runs = []
    for name, changes in sweep.changes.items():
        directory, words = out / name, shlex.join(flags.command_line(changes))
        figures = train_run(name, directory, sweep.shared | changes, wanted)
        runs.append(reports.read_run(directory, words, figures))
    reports.write_table(out, sweep.about, runs)
    sizes: dict[str, Any] = {name: sweep.shared.get(name) for name in ("images", "limit", "size", "epochs")}
    scale = f"--scale {wanted.scale}: {shlex.join(flags.command_line(sizes))}"
    seconds = sum(run.figures.get("seconds") or 0 for run in runs)
    title = f"{sweep.about}\n{scale}; {seconds:,.0f} seconds on {len(os.sched_getaffinity(0))} cores"
    reports.draw(title, runs, out / "curves.png")
    changes = {run.name: run.changes for run in runs}
    reports.write_origin(out, {"about": sweep.about, "scale": scale, "command": repeating, "runs": changes})
    diverged = [run.name for run in runs if DIVERGED in run.figures]
    untrained = [run.name for run in runs if run.name not in diverged and not run.has_learned]
    table = {"table": str(out / "table.md"), "picture": str(out / "curves.png")}
    return {"runs": {run.name: run.figures for run in runs}, "diverged": diverged, "untrained": untrained, **table}


def train_run(name: str, directory: pathlib.Path, values: dict, wanted: SweepFlags) -> dict:
    """The figures of one run, trained where it is not yet; {"diverged_at_step": ...} where its loss ended in NaN.

    Args:
        name: of the run.
        directory: of the run.
        values: its flags.
        wanted: the flags of the sweep.

    Raises:
        UserError: the training failed otherwise; it has said why.
        Stopped: it was stopped, with everything saved.
    """
    earlier = run_directory.read_figures(directory)
    if DIVERGED in earlier:
        if wanted.repeat_diverged:
            directory.rename(_free_name(directory))
        elif _has_flags(directory, values):
            print(f"{name}: {earlier['problem']} (--repeat-diverged begins it again)", file=sys.stderr, flush=True)
            return earlier
    words = [*flags.command_line(values), "--run", str(directory), "--resume"]
    words += ["--quiet"] if wanted.quiet else []
    # Each run has a process of its own, and so the same state to start from. One that is done is asked again: it
    # refuses images and labels that have changed since.
    print(f"{name}: python -m jobs.train {shlex.join(words)}", file=sys.stderr, flush=True)
    try:
        return run_job(TRAIN, words)
    except UserError:
        if DIVERGED in (figures := run_directory.read_figures(directory)):
            return figures  # That is a result, too; the other runs go on.
        raise


def _free_name(directory):
    """Where a run that diverged goes to make room; nothing of it is lost."""
    names = (directory.with_name(f"{directory.name}.diverged-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _has_flags(directory, values):
    """Whether the run in a directory was trained with these flags."""
    saved = (run_directory.read_config(directory) or {"flags": {}})["flags"]
    return all(saved.get(name) == value for name, value in values.items())


def spell_out(words: list[str]) -> list[str]:
    """The words of `run-exp` with whole flags for the short ones, and a flag before each of several values."""
    spelled, flag_before = [], None
    for number, word in enumerate(words):
        if not word.startswith("-"):
            if flag_before is not None and words[number - 1] not in SHORT:
                spelled.append(flag_before)
            spelled.append(word)
            continue
        flag_before = SHORT.get(word)
        spelled.append(flag_before or word)
    return spelled


if __name__ == "__main__":
    if sys.argv[1:2] == [RUN_ONE]:
        command.main(OneRun, run_one, EXAMPLE_OF_ONE, spell_out(sys.argv[2:]))
    command.main(Config, run, EXAMPLE)
