"""python -m jobs.experiment: a named sweep of trainings that differ in a few flags, as a table and a picture."""

import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import string
import subprocess
import sys
import tomllib

from jobs import command, report, train
from jobs.command import flag, required
from tfpipeline.system import FlagError, Stopped, UserError

EXAMPLE = "python -m jobs.experiment --sweep benchmarks/sweeps/shapes.toml --out runs/shapes-sweep"
FIGURES = {
    "validation_top1": "true top-1",
    "validation_top5": "true top-5",
    "agreement_top1": "agreement@1",
    "relative_top1": "relative top-1",
    "kl_nats": "KL to the teacher (nats)",
}
NAME = re.compile(r"[\w.+-]+")


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains the runs of a sweep one after another and compares them. The same command again goes on.

    A sweep is a TOML file: `about`, one line; the table `[flags]` with the flags of jobs.train that all runs share; and
    in `[runs]` for each name the flags in which it differs. $NAME in a value is the environment variable of that name.
    """

    sweep: str = required("the sweep's .toml file", metavar="FILE")
    out: str = required("directory of the runs, of table.md, table.csv and curves.png", metavar="DIR")
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Trains what is not trained yet, writes the table and the picture, and returns the figures."""
    about, shared, runs = read_sweep(pathlib.Path(config.sweep))
    out = pathlib.Path(config.out)
    figures, histories = {}, {}
    for name, changes in runs.items():
        directory = out / name
        flags = [*flags_of(shared | changes), "--run", str(directory), "--resume"]
        figures[name] = train_apart(name, [*flags, *(["--quiet"] if config.quiet else [])])
        histories[name] = report.read_run(directory)[1]
    write_table(out, about, runs, figures)
    draw(about, histories, out / "curves.png")
    return {"runs": figures, "table": str(out / "table.md"), "picture": str(out / "curves.png")}


def read_sweep(path: pathlib.Path) -> tuple[str, dict, dict[str, dict]]:
    """(what the sweep is about, the flags of all runs, name -> the flags in which a run differs).

    Raises:
        UserError: the file is not there or no TOML.
        FlagError: it is not a sweep, or names what jobs.train does not have.
    """
    try:
        sweep = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--sweep {path} does not exist; see benchmarks/sweeps for examples") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--sweep {path} is no TOML file: {error}") from error
    about, shared, runs = (sweep.pop(name, default) for name, default in (("about", ""), ("flags", {}), ("runs", {})))
    if sweep or not runs or not all(isinstance(changes, dict) for changes in (shared, *runs.values())):
        raise FlagError(f"--sweep {path} must have `about`, [flags] and [runs] with a table of flags for each run")
    for name in runs:
        if not NAME.fullmatch(name):
            raise FlagError(f"--sweep {path}: run {name!r} names a directory; use letters, digits and _ . + - only")
    known = {field.name for field in dataclasses.fields(train.Config)} - {"run", "resume", "quiet"}
    for place, changes in {"[flags]": shared, **{f"run {name}": changes for name, changes in runs.items()}}.items():
        for key in changes:
            if key not in known:
                raise FlagError(f"--sweep {path}: {place} has {key!r}, which is no flag that a sweep gives jobs.train")
    return about, _with_environment(shared), {name: _with_environment(changes) for name, changes in runs.items()}


def _with_environment(flags):
    try:
        return {name: _expanded(value) for name, value in flags.items()}
    except (KeyError, ValueError) as error:
        raise FlagError(f"--sweep: {error.args[0]} stands after a $ but is no environment variable; set it") from error


def _expanded(value):
    if isinstance(value, list):
        return [_expanded(part) for part in value]
    return string.Template(value).substitute(os.environ) if isinstance(value, str) else value


def flags_of(values: dict) -> list[str]:
    """The command line of flag values: true is a switch, a list repeats its flag."""
    flags = []
    for name, value in values.items():
        word = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            flags += [word] if value else []
        else:
            for part in value if isinstance(value, list) else [value]:
                flags += [word, str(part)]
    return flags


def train_apart(name: str, flags: list[str]) -> dict:
    """Runs jobs.train in a process of its own, which starts every run from the same state, and returns its figures.

    A signal to stop is handed on to it.

    Args:
        name: of the run.
        flags: of jobs.train.

    Raises:
        UserError: it failed; it has said why.
        Stopped: it was stopped, with everything saved.
    """
    # A run that is done is asked again: it refuses images and labels that have changed since.
    print(f"{name}: python -m jobs.train {' '.join(flags)}", file=sys.stderr, flush=True)
    child = subprocess.Popen([sys.executable, "-m", "jobs.train", *flags], stdout=subprocess.PIPE, text=True)
    # From a terminal SIGINT comes to both processes; a second one does no harm.
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in signals}
    try:
        answer = child.communicate()[0]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if child.returncode == Stopped.exit_code:
        raise Stopped("stopped; the run is saved; run the same command again to go on")
    if child.returncode:
        raise UserError(f"jobs.train ended with {child.returncode}; run the same command again once that is mended")
    return json.loads(answer.splitlines()[-1])


def write_table(out: pathlib.Path, about: str, runs: dict, figures: dict) -> None:
    """Writes table.md and table.csv: a row per run with what it changes and what it reached; prints the first."""
    import csv

    from tfpipeline.system import write_file

    names = [name for name in FIGURES if any(row.get(name) is not None for row in figures.values())]
    rows = [
        [run, " ".join(flags_of(changes)), *(figures[run].get(name) for name in names), figures[run]["steps"]]
        for run, changes in runs.items()
    ]
    header = ["run", "what it changes", *(FIGURES[name] for name in names), "steps"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for run, changed, *reached, steps in rows:
        cells = [_cell(name, value) for name, value in zip(names, reached, strict=True)]
        lines.append(f"| {run} | {f'`{changed}`' if changed else ''} | {' | '.join(cells)} | {steps:,} |")
    table = "\n".join(lines) + "\n"
    print(table)
    write_file(out / "table.md", f"{about}\n\n{table}".encode())
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    write_file(out / "table.csv", text.getvalue().encode())


def _cell(name, value):
    if value is None:
        return "-"
    return f"{value:.3f}" if name == "kl_nats" else f"{100 * value:.1f} %"


def draw(about: str, histories: dict, path: pathlib.Path) -> None:
    """Writes the picture: the runs' held-out accuracy and their agreement with the teacher, epoch by epoch."""
    from matplotlib.figure import Figure

    from tfpipeline import pictures

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axis, (column, ylabel) in zip(
        figure.subplots(1, 2),
        (("validation_top1", "true top-1 (%)"), ("agreement_top1", "agreement@1 with the teacher (%)")),
        strict=True,
    ):
        longest = max(map(len, histories.values()))
        curves = {
            name: report.column(history, column) + [None] * (longest - len(history))
            for name, history in histories.items()
        }
        pictures.draw_curves(axis, range(1, longest + 1), curves, "epoch", ylabel, percent=True)
    figure.suptitle(about, fontsize=10)
    pictures.save(figure, path)


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
