"""A matplotlib figure as a PNG, and the colors that mean something in every picture."""

import io
import pathlib

from matplotlib.figure import Figure
from matplotlib.text import Text

from tfpipeline.system import write_file

RIGHT, WRONG, PLAIN = "#1a7f37", "#cf222e", "#24292f"


def save(figure: Figure, path: pathlib.Path, dots_per_inch: int = 110) -> pathlib.Path:
    """Writes the figure as a PNG, whole or not at all, and returns its path."""
    write_file(path, png(figure, dots_per_inch))
    return path


def png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as the bytes of a PNG file."""
    content = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # A name with dollar signs is a name, not a formula.
    figure.savefig(content, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return content.getvalue()
