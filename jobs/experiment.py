"""python -m jobs.experiment: a named sweep of trainings that differ in a few flags, as a table and a picture."""

import dataclasses
import pathlib
import shlex
import sys

from jobs import command
from jobs.processes import run_job
from jobs.training import command_line_of, read_sweep
from tfpipeline.system.flags import Flags, flag, required
from tfpipeline.training import run_directory

EXAMPLE = "python -m jobs.experiment --sweep recipes/shapes.toml --out runs/shapes-sweep"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Trains the runs of a sweep one after another and compares them. The same command again goes on.

    A sweep is a TOML file: `about`, one line; the table `[flags]` with the flags of jobs.train that all runs share; and
    in `[runs]` for each name the flags in which it differs. $NAME in a value is the environment variable of that name.
    """

    sweep: str = required("the sweep's .toml file", metavar="FILE")
    out: str = required("directory of the runs, of table.md, table.csv and curves.png", metavar="DIR")
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Trains what is not trained yet, writes the table and the picture, and returns the figures."""
    sweep, out = read_sweep(pathlib.Path(config.sweep)), pathlib.Path(config.out)
    figures, histories = {}, {}
    for name, changes in sweep.changes.items():
        directory = out / name
        flags = [*command_line_of(sweep.shared | changes), "--run", str(directory), "--resume"]
        flags += ["--quiet"] if config.quiet else []
        # Each run has a process of its own, and so the same state to start from. One that is done is asked again: it
        # refuses images and labels that have changed since.
        print(f"{name}: python -m jobs.train {shlex.join(flags)}", file=sys.stderr, flush=True)
        figures[name] = run_job("train", flags)
        histories[name] = run_directory.read_history(directory)
    from jobs.reports import sweep as reports

    words = {name: " ".join(command_line_of(changes)) for name, changes in sweep.changes.items()}
    reports.write_table(out, sweep.about, words, figures)
    reports.draw(sweep.about, histories, out / "curves.png")
    return {"runs": figures, "table": str(out / "table.md"), "picture": str(out / "curves.png")}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
