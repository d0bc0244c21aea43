"""The table and the picture of a sweep of trainings."""

import pathlib

from matplotlib.figure import Figure

from tfpipeline import pictures
from tfpipeline.system import write_csv, write_file

FIGURES = {
    "validation_top1": "true top-1",
    "validation_top5": "true top-5",
    "agreement_top1": "agreement@1",
    "relative_top1": "relative top-1",
    "kl_nats": "KL to the teacher (nats)",
}


def write_table(out: pathlib.Path, about: str, changes: dict[str, str], figures: dict[str, dict]) -> None:
    """Writes table.md and table.csv: a row per run with what it changes and what it reached; prints the first.

    Args:
        out: the directory of the sweep.
        about: what the sweep is about.
        changes: of each run, the flags in which it differs from the others.
        figures: of each run, as jobs.train returns them.
    """
    names = [name for name in FIGURES if any(row.get(name) is not None for row in figures.values())]
    rows = [
        [run, changed, *(figures[run].get(name) for name in names), figures[run].get("steps"), _seconds(figures[run])]
        for run, changed in changes.items()
    ]
    header = ["run", "what it changes", *(FIGURES[name] for name in names), "steps", "seconds"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for run, changed, *reached, steps, seconds in rows:
        cells = [_cell(name, value) for name, value in zip(names, reached, strict=True)]
        cells = [run, f"`{changed}`" if changed else "", *cells, _steps(steps, figures[run]), seconds]
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table)
    write_file(out / "table.md", f"{about}\n\n{table}".encode())
    write_csv(out / "table.csv", header, rows)


def _steps(steps, figures):
    """The steps of a run, or where it came to an end."""
    return f"diverged at {figures['diverged_at_step']:,}" if steps is None else f"{steps:,}"


def _seconds(figures):
    return "-" if figures.get("seconds") is None else f"{figures['seconds']:,.0f}"


def _cell(name, value):
    if value is None:
        return "-"
    return f"{value:.3f}" if name == "kl_nats" else f"{100 * value:.1f} %"


def draw(about: str, histories: dict[str, list[dict]], path: pathlib.Path) -> None:
    """Writes the picture: the runs' held-out accuracy and their agreement with the teacher, epoch by epoch."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axis, (column, ylabel) in zip(
        figure.subplots(1, 2),
        (("validation_top1", "true top-1 (%)"), ("agreement_top1", "agreement@1 with the teacher (%)")),
        strict=True,
    ):
        longest = max(map(len, histories.values()))
        curves = {
            name: [row.get(column) for row in history] + [None] * (longest - len(history))
            for name, history in histories.items()
        }
        pictures.draw_curves(axis, range(1, longest + 1), curves, "epoch", ylabel, percent=True)
    figure.suptitle(about, fontsize=10)
    pictures.save(figure, path)
