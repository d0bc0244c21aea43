"""A page that stands alone: what it is about in figures, the commands that repeat it, and sections; no network."""

import base64
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence

import jinja2
import numpy as np
from PIL import Image

from tfpipeline import pictures
from tfpipeline.system import write_file

NAME = "report.html"
_SIGNS = {pictures.RIGHT: "right", pictures.WRONG: "wrong", pictures.PLAIN: "unknown"}
_PANEL_DOTS_PER_INCH = 200  # They are shown at half of it, or less.


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with the words for who does not see it.

    Attributes:
        content: a PNG.
        alt: what it shows.
        fits: whether it is as wide as a phone; another one scrolls there.
    """

    content: bytes
    alt: str
    fits: bool = False

    @property
    def data(self) -> str:
        """The content as text."""
        return base64.b64encode(self.content).decode()


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image with what is said of it.

    Attributes:
        picture: the image.
        sign: "right", "wrong" or "unknown".
        lines: below it.
    """

    picture: Picture
    sign: str
    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that sorts by a column, or of a name and a value in each row.

    Attributes:
        rows: texts.
        columns: their heads; () for names and values.
    """

    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page; what is empty is left out.

    Attributes:
        title: its head.
        text: paragraphs before all else.
        legend: what each sign of the samples means.
        samples: images.
        pictures: one below the other, or side by side.
        table: after the pictures.
    """

    title: str
    text: Sequence[str] = ()
    legend: Mapping[str, str] = dataclasses.field(default_factory=dict)
    samples: Sequence[Sample] = ()
    pictures: Sequence[Picture] = ()
    table: Table | None = None


@dataclasses.dataclass(frozen=True)
class Page:
    """All of a page.

    Attributes:
        name: of what it is about.
        about: one line on it.
        headline: (what, value) of each figure, the most important first.
        commands: that repeat it, in their order.
        sections: in their order.
    """

    name: str
    about: str
    headline: Sequence[tuple[str, str]]
    commands: Sequence[str]
    sections: Sequence[Section]


def write(page: Page, path: pathlib.Path) -> None:
    """Writes a page as one file, whole or not at all."""
    template = pathlib.Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8")
    text = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(template).render(page=page)
    write_file(path, text.encode(errors="backslashreplace"))  # A path that is no UTF-8 is shown with its bytes.


def text_of_size(size: int) -> str:
    """So many bytes, for people."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def sample_of(image: np.ndarray, color: str, lines: Sequence[str], number: int) -> Sample:
    """An image as a page shows it.

    Args:
        image: uint8 (H, W, 3).
        color: one of those of tfpipeline.pictures that mean something.
        lines: below it.
        number: of the image on the page.
    """
    content = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(content, "PNG")
    alt = f"image {number}: {', '.join(lines)}"
    return Sample(Picture(content.getvalue(), alt), _SIGNS[color], lines)


def pictures_of(panels: Sequence[pictures.Panel]) -> list[Picture]:
    """A picture for each panel that has values, as wide as a phone."""
    return [
        Picture(pictures.png(figure, _PANEL_DOTS_PER_INCH, 64), panel.in_words, fits=True)
        for panel, figure in pictures.draw_each(panels)
    ]
