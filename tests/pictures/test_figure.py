import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tfpipeline import pictures


def colored(color="red"):
    return Figure(figsize=(3, 2), facecolor=color)


def test_a_png_is_written_whole_and_has_the_size_that_was_asked_for(tmp_path):
    path = pictures.save(colored(), tmp_path / "figure.png", dots_per_inch=50)
    assert path == tmp_path / "figure.png" and list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == pictures.png(colored(), dots_per_inch=50)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (150, 100)
        assert "Software" not in image.info, "the bytes must not tell the version of matplotlib"
        assert np.all(np.asarray(image.convert("RGB")) == [255, 0, 0])


def test_a_figure_that_cannot_be_saved_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = pictures.save(colored(), tmp_path / "figure.png")
    before = path.read_bytes()

    def write_half(self, file, **_):
        file.write(before[: len(before) // 2])
        raise OSError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="out of memory"):
        patch.setattr(Figure, "savefig", write_half)
        pictures.save(colored("blue"), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert Image.open(io.BytesIO(before)).size == (330, 220)


def test_a_palette_makes_a_drawing_small_and_keeps_its_colors(tmp_path):
    figure = Figure(figsize=(6, 4))
    for number in range(5):
        axis = figure.add_subplot(2, 3, number + 1)
        axis.plot(np.sin(np.arange(50) * number), color="#d55e00")
    plain, small = pictures.png(figure), pictures.png(figure, colors=64)
    assert len(small) < 0.7 * len(plain)
    drawn = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"))
    assert drawn.shape[:2] == (440, 660) and (np.abs(drawn.astype(int) - [213, 94, 0]).max(-1) <= 8).any()
