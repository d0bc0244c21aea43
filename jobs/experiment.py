"""python -m jobs.experiment: a named sweep of trainings that differ in a few flags, as a table and a picture."""

import dataclasses
import itertools
import pathlib
import shlex
import sys

from jobs import command
from jobs.processes import run_job
from jobs.training import command_line_of, read_sweep
from tfpipeline.system import UserError
from tfpipeline.system.flags import Flags, flag, required
from tfpipeline.training import run_directory

DIVERGED = "diverged_at_step"
EXAMPLE = "python -m jobs.experiment --sweep recipes/shapes.toml --out runs/shapes-sweep"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Trains the runs of a sweep one after another and compares them. The same command again goes on.

    A sweep is a TOML file: `about`, one line; the table `[flags]` with the flags of jobs.train that all runs share; and
    in `[runs]` for each name the flags in which it differs. $NAME in a value is the environment variable of that name.
    """

    sweep: str = required("the sweep's .toml file", metavar="FILE")
    out: str = required("directory of the runs, of table.md, table.csv and curves.png", metavar="DIR")
    repeat_diverged: bool = flag(
        False, "begin runs again whose loss was not finite any more; what they left is set aside"
    )
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Trains what is not trained yet, writes the table and the picture, and returns the figures."""
    sweep, out = read_sweep(pathlib.Path(config.sweep)), pathlib.Path(config.out)
    figures, histories = {}, {}
    for name, changes in sweep.changes.items():
        figures[name] = train_run(name, out / name, sweep.shared | changes, config)
        histories[name] = [] if DIVERGED in figures[name] else run_directory.read_history(out / name)
    from jobs.reports import sweep as reports

    words = {name: " ".join(command_line_of(changes)) for name, changes in sweep.changes.items()}
    reports.write_table(out, sweep.about, words, figures)
    reports.draw(sweep.about, histories, out / "curves.png")
    diverged = [name for name, row in figures.items() if DIVERGED in row]
    table = {"table": str(out / "table.md"), "picture": str(out / "curves.png")}
    return {"runs": figures, "diverged": diverged, **table}


def train_run(name: str, directory: pathlib.Path, values: dict, config: Config) -> dict:
    """The figures of one run, trained where it is not yet; {"diverged_at_step": ...} where its loss ended in NaN.

    Args:
        name: of the run.
        directory: of the run.
        values: its flags.
        config: of the sweep.

    Raises:
        UserError: the training failed otherwise; it has said why.
        Stopped: it was stopped, with everything saved.
    """
    earlier = run_directory.read_figures(directory)
    if DIVERGED in earlier:
        if config.repeat_diverged:
            directory.rename(_free_name(directory))
        elif _has_flags(directory, values):
            print(f"{name}: {earlier['problem']} (--repeat-diverged begins it again)", file=sys.stderr, flush=True)
            return earlier
    flags = [*command_line_of(values), "--run", str(directory), "--resume"]
    flags += ["--quiet"] if config.quiet else []
    # Each run has a process of its own, and so the same state to start from. One that is done is asked again: it
    # refuses images and labels that have changed since.
    print(f"{name}: python -m jobs.train {shlex.join(flags)}", file=sys.stderr, flush=True)
    try:
        return run_job("train", flags)
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


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
