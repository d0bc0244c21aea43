"""Curves over epochs or steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes


def draw_curves(
    axis: Axes,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float | None] | float],
    xlabel: str,
    ylabel: str,
    percent: bool = False,
) -> None:
    """Draws curves over the same x, each with its name; a curve whose values are all missing is left out.

    Args:
        axis: where to draw.
        x: (N,) positions.
        curves: name -> (N,) values, None or NaN where there is none; a float is a horizontal line.
        xlabel: what x is, with its unit.
        ylabel: what the values are, with their unit.
        percent: values are fractions, shown in percent.
    """
    scale = 100 if percent else 1
    for name, values in curves.items():
        if isinstance(values, int | float):
            axis.axhline(scale * values, color="gray", linestyle="--", linewidth=1, label=name)
            continue
        heights = scale * np.array([np.nan if value is None else value for value in values], float)
        if np.isfinite(heights).any():
            axis.plot(x, heights, marker="o", markersize=3, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
