"""A matplotlib figure as a PNG, and the colors that mean something in every picture."""

import io
import pathlib
import warnings

from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tfpipeline.system import write_file

RIGHT, WRONG, PLAIN = "#1a7f37", "#cf222e", "#24292f"


def cut(text: str, letters: int) -> str:
    """A text of at most so many letters, "…" in the place of what does not fit."""
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def save(figure: Figure, path: pathlib.Path, dots_per_inch: int = 110, colors: int | None = None) -> pathlib.Path:
    """Writes the figure as a PNG, whole or not at all, and returns its path."""
    write_file(path, png(figure, dots_per_inch, colors))
    return path


def png(figure: Figure, dots_per_inch: int = 110, colors: int | None = None) -> bytes:
    """The figure as the bytes of a PNG file.

    Args:
        figure: what to draw.
        dots_per_inch: its resolution.
        colors: of its palette, up to 256, which makes drawings without photographs small; None for all.
    """
    content = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # A name with dollar signs is a name, not a formula.
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph \d+ .* missing from font"
        )  # Letters that it lacks are drawn as boxes.
        figure.savefig(content, format="png", dpi=dots_per_inch, metadata={"Software": None})
    if colors is not None:
        drawn = Image.open(content).convert("RGB").quantize(colors, dither=Image.Dither.NONE)
        content = io.BytesIO()
        drawn.save(content, format="png", optimize=True)
    return content.getvalue()
