"""The table and the picture of a sweep of trainings."""

import dataclasses
import itertools
import pathlib
from typing import Any

from tfpipeline import pictures
from tfpipeline.system import UserError, read_hashed, write_csv, write_file, write_hashed
from tfpipeline.training import run_directory

FIGURES = {
    "parameters": "parameters",
    "training_top1": "true top-1 in training",
    "validation_top1": "true top-1",
    "validation_top5": "true top-5",
    "agreement_top1": "agreement@1",
    "relative_top1": "relative top-1",
    "kl_nats": "KL to the teacher (nats)",
}
CURVES = {
    "loss": "loss in training (nats)",
    "training_top1": "true top-1 in training (%)",
    "training_agreement_top1": "agreement@1 in training (%)",
    "validation_loss": "held-out loss (nats)",
    "validation_top1": "held-out true top-1 (%)",
    "agreement_top1": "held-out agreement@1 (%)",
    "learning_rate": "learning rate",
}
ORIGIN = "sweep.json"
DIVERGED = "diverged_at_step"
AT_SIZE = "validation_top1_at_"
# Times 1/K, the accuracy of one answer to all images of K classes: what a network that learns nothing stays below.
UNTRAINED = 1.5


@dataclasses.dataclass(frozen=True)
class Run:
    """What a sweep shows of a run.

    Attributes:
        name: of the run.
        changes: the flags in which it differs from the others, as a command line.
        figures: as jobs.train returns them.
        history: a dict of figures for every epoch; [] of a run that diverged.
        gradients: the norms of the gradients by the kernels, "before" and "after" the training; {} where not measured.
        class_count: K; 0 where nobody says.
    """

    name: str
    changes: str
    figures: dict[str, Any]
    history: list[dict[str, Any]]
    gradients: dict[str, list[float]]
    class_count: int

    @property
    def has_learned(self) -> bool:
        """Whether the accuracy in training, where it is known, ends above that of one answer to all images."""
        last = self.history[-1].get("training_top1") if self.history else 0.0
        return self.class_count == 0 or last is None or last > UNTRAINED / self.class_count

    @property
    def reach(self) -> float | None:
        """The norm of the gradient at the first layer, as a share of that at the last, before the training."""
        before = self.gradients.get("before")
        return before[0] / before[-1] if before and before[-1] else None

    def figure(self, name: str) -> Any:
        """A figure that the training printed, else that of its last epoch; None where there is none."""
        last = self.history[-1] if self.history else {}
        return self.figures.get(name, last.get(name))


def read_run(directory: pathlib.Path, changes: str, figures: dict[str, Any]) -> Run:
    """A run of a sweep as its directory has it.

    Args:
        directory: of the run.
        changes: the flags in which it differs from the others.
        figures: as jobs.train returned them, or what it left of a run that diverged.
    """
    history = [] if DIVERGED in figures else run_directory.read_history(directory)
    class_names = (run_directory.read_config(directory) or {}).get("class_names", ())
    gradients = run_directory.read_gradients(directory)
    return Run(directory.name, changes, figures, history, gradients, len(class_names))


def write_table(out: pathlib.Path, about: str, runs: list[Run]) -> None:
    """Writes table.md and table.csv: a row per run with what it changes and what it reached; prints the first.

    Args:
        out: the directory of the sweep.
        about: what the sweep is about.
        runs: of the sweep.
    """
    header, rows, cells = tabulate(runs)
    cells = [[name, f"`{changes}`" if changes else "", *rest] for name, changes, *rest in cells]
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *cells)]
    table = "\n".join([*lines, "", *(f"- {note}" for note in notes_on(runs))]).rstrip() + "\n"
    print(table)
    write_file(out / "table.md", f"{about}\n\n{table}".encode())
    write_csv(out / "table.csv", header, rows)


def tabulate(runs: list[Run]) -> tuple[list[str], list[list[Any]], list[list[str]]]:
    """(the heads of the columns, a row of values for each run, the same rows as people read them)."""
    sizes = dict.fromkeys(name for run in runs for name in run.figures if name.startswith(AT_SIZE))
    titles = FIGURES | {name: f"at {name.removeprefix(AT_SIZE)} pixels" for name in sizes}
    names = [name for name in titles if any(run.figure(name) is not None for run in runs)]
    header = ["run", "what it changes", *(titles[name] for name in names), "steps", "seconds"]
    rows, cells = [], []
    for run in runs:
        reached = [run.figure(name) for name in names]
        rows.append([run.name, run.changes, *reached, run.figures.get("steps"), _seconds(run)])
        shown = [_cell(name, value) for name, value in zip(names, reached, strict=True)]
        cells.append([run.name, run.changes, *shown, _steps(run), _seconds(run)])
    if any(run.gradients for run in runs):
        header.append("gradient, first layer / last")
        rows = [[*row, run.reach] for row, run in zip(rows, runs, strict=True)]
        cells = [[*row, "-" if run.reach is None else f"{run.reach:.2g}"] for row, run in zip(cells, runs, strict=True)]
    return header, rows, cells


def notes_on(runs: list[Run]) -> list[str]:
    """Which runs diverged or do not train, and why; where loss and accuracy rise together."""
    return [note for note in (*map(_note, runs), _rise_together(runs)) if note]


def _note(run):
    """Why a run did not train, as far as it was measured; "" where it did."""
    if DIVERGED in run.figures:
        return f"{run.name} diverged: {run.figures['problem']}"
    if run.has_learned:
        return ""
    accuracy, reason = run.history[-1]["training_top1"], ""
    if run.reach is not None:
        before, after = run.gradients["before"], run.gradients["after"]
        reason = (
            f"; before the training the gradient by the first layer's kernel has {run.reach:.2g} of the norm of that "
            f"by the last's ({before[0]:.2g}, {before[-1]:.2g}), after it they have {after[0]:.2g} and {after[-1]:.2g}"
        )
    chance = 1 / run.class_count
    return (
        f"{run.name} does not train: its accuracy in training ends at {100 * accuracy:.1f} %, one answer to all has "
        f"{100 * chance:.1f} %{reason}"
    )


def _rise_together(runs):
    """The epoch of a run in which the held-out loss rose most while the held-out accuracy rose, too; "" if none."""
    rises = [
        (after["validation_loss"] - before["validation_loss"], run.name, before, after)
        for run in runs
        for before, after in itertools.pairwise(run.history)
        if None not in [row.get(name) for row in (before, after) for name in ("validation_loss", "validation_top1")]
        and after["validation_loss"] > before["validation_loss"]
        and after["validation_top1"] > before["validation_top1"]
    ]
    if not rises:
        return ""
    _, name, before, after = max(rises, key=lambda rise: rise[0])
    return (
        f"the held-out loss and accuracy rise together in {name}, epoch {after['epoch']:.0f}: "
        f"{before['validation_loss']:.3f} to {after['validation_loss']:.3f} nats, "
        f"{100 * before['validation_top1']:.1f} to {100 * after['validation_top1']:.1f} %"
    )


def _steps(run):
    """The steps of a run, or where it came to an end."""
    steps = run.figures.get("steps")
    return f"diverged at {run.figures[DIVERGED]:,}" if steps is None else f"{steps:,}"


def _seconds(run):
    return "-" if run.figures.get("seconds") is None else f"{run.figures['seconds']:,.0f}"


def _cell(name, value):
    if value is None:
        return "-"
    if name == "parameters":
        return f"{value:,}"
    return f"{value:.3f}" if name == "kl_nats" else f"{100 * value:.1f} %"


def panels_of(runs: list[Run]) -> list[pictures.Panel]:
    """What the history has, epoch by epoch, and the gradients layer by layer where they were measured."""
    panels = [
        pictures.Panel("epoch", title, curves, percent="top1" in name)
        for name, title in CURVES.items()
        if (curves := {run.name: [row.get(name) for row in run.history] for run in runs})
        and (name != "learning_rate" or len({tuple(values) for values in curves.values()}) > 1)
    ]
    panels += [
        pictures.Panel(
            "layer",
            f"gradient's norm, {when} training",
            {run.name: run.gradients.get(when, []) for run in runs},
            logarithmic=True,
        )
        for when in ("before", "after")
    ]
    return panels


def draw(title: str, runs: list[Run], path: pathlib.Path) -> None:
    """Writes the picture of all panels."""
    pictures.save(pictures.draw_panels(panels_of(runs), title), path, dots_per_inch=80, colors=64)


def write_origin(out: pathlib.Path, origin: dict[str, Any]) -> None:
    """Writes sweep.json: what the runs are about, by which command they were made, and what each changes.

    Args:
        out: the directory of the sweep.
        origin: "about", "scale", "command", and "runs", name -> flags in which it differs.
    """
    write_hashed(out / ORIGIN, origin)


def read_origin(out: pathlib.Path) -> dict[str, Any]:
    """What `write_origin` wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        origin = read_hashed(out / ORIGIN) or {}
        if not (isinstance(origin.get("runs"), dict) and {"about", "scale", "command"} <= origin.keys()):
            raise ValueError("it is not what it must be")
    except ValueError as error:
        raise UserError(
            f"{out / ORIGIN} is damaged ({error}); the same jobs.experiment command writes it again"
        ) from error
    return origin
