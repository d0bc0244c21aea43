"""Several curves of several runs: a panel for each quantity, all in one figure or each in one of its own."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito 2008
_MARKERS = "osD^vPX*<>hp"
_LINES = ("-", "--", ":", "-.")
_COLUMNS = 3
_NARROW = 3.6  # inches, of a figure for a phone


@dataclasses.dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes:
        xlabel: what x is, with its unit; x counts from 1.
        ylabel: what the values are, with their unit.
        curves: of each run, by its name, its values, None where there is none.
        percent: values are fractions, shown in percent.
        logarithmic: whether the axis of the values is.
    """

    xlabel: str
    ylabel: str
    curves: Mapping[str, Sequence[float | None]]
    percent: bool = False
    logarithmic: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no run has a value."""
        return all(value is None for values in self.curves.values() for value in values)

    @property
    def in_words(self) -> str:
        """What the curves show, for who does not see them: the first and the last value of each."""
        told = []
        for name, values in self.curves.items():
            known = [value for value in values if value is not None and np.isfinite(value)]
            if known:
                first, last = (f"{100 * v:.1f}" if self.percent else f"{v:.3g}" for v in (known[0], known[-1]))
                told.append(f"{name} from {first} to {last}" if len(known) > 1 else f"{name} {first}")
        return f"{self.ylabel} by {self.xlabel}: {'; '.join(told)}"


def draw_panels(panels: Sequence[Panel], title: str) -> Figure:
    """The figure: the panels that have values, three in a row; each run has its color, its sign and its line in all.

    Args:
        panels: what to show.
        title: above all of them.
    """
    shown, styles = _shown(panels)
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = -(-len(shown) // columns) or 1
    figure = Figure(figsize=(4.2 * columns + 2.6, 3.3 * rows + 0.5), layout="constrained")
    handles: dict[str, Line2D] = {}
    for place, panel in enumerate(shown, 1):
        handles |= _draw(figure.add_subplot(rows, columns, place), panel, styles)
    if handles:
        figure.legend([*handles.values()], [*handles], loc="outside right upper", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_each(panels: Sequence[Panel]) -> Iterator[tuple[Panel, Figure]]:
    """(panel, its figure) of those that have values, as wide as a phone, each with its legend below.

    Args:
        panels: what to show; a run looks the same in all of them.
    """
    shown, styles = _shown(panels)
    for panel in shown:
        figure = Figure(layout="constrained")
        handles = _draw(figure.add_subplot(), panel, styles)
        figure.set_size_inches(_NARROW, 2.6 + 0.2 * len(handles))
        figure.legend([*handles.values()], [*handles], loc="outside lower left", fontsize=9, frameon=False)
        yield panel, figure


def _shown(panels):
    """(the panels that have values, run -> its style in all of them)."""
    shown = [panel for panel in panels if not panel.is_empty]
    names = dict.fromkeys(name for panel in shown for name in panel.curves)
    return shown, dict(zip(names, _styles(), strict=False))


def _draw(axis, panel, styles) -> dict[str, Line2D]:
    """Draws a panel; returns run -> its line."""
    handles = {}
    for name, values in panel.curves.items():
        heights = (100 if panel.percent else 1) * np.array([np.nan if v is None else v for v in values], float)
        if np.isfinite(heights).any():
            x = np.arange(1, 1 + len(heights))
            (handles[name],) = axis.plot(x, heights, markersize=5, linewidth=1.4, label=name, **styles[name])
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel, yscale="log" if panel.logarithmic else "linear")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.logarithmic:  # Matplotlib's own labels are formulas.
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    return handles


def _styles():
    """Endless different ways to draw a curve: color, sign and line, so that none rests on color alone."""
    for number in itertools.count():
        line = _LINES[number // len(_COLORS) % len(_LINES)]
        yield {
            "color": _COLORS[number % len(_COLORS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": line,
        }
