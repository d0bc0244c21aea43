import numpy as np

from tfpipeline import pictures

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
CAPTIONS = ["one", "two\nlines", "a caption of more letters", "eighteen letters!!", ""]


def test_each_image_stands_over_its_caption_row_by_row():
    colors = [pictures.RIGHT, pictures.WRONG, pictures.PLAIN, pictures.PLAIN, pictures.RIGHT]
    figure = pictures.contact_sheet(IMAGES, CAPTIONS, colors, columns=3, title="five")
    assert len(figure.axes) == 6 and figure.get_suptitle() == "five"
    for axis, image in zip(figure.axes, IMAGES, strict=False):
        assert np.array_equal(axis.get_images()[0].get_array(), image)
    captions = [axis.texts[0].get_text() for axis in figure.axes[:5]]
    assert captions == ["one", "two\nlines", "a caption of more…", "eighteen letters!!", ""]
    assert [axis.texts[0].get_color() for axis in figure.axes[:5]] == colors
    places = [axis.get_subplotspec() for axis in figure.axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == list(np.ndindex(2, 3))
    assert not figure.axes[5].get_images(), "the place of a sixth image is empty"


def test_without_colors_captions_are_plain_and_a_sheet_may_be_a_part_of_a_figure():
    figure = pictures.contact_sheet(IMAGES[:1], CAPTIONS[:1])
    assert figure.axes[0].texts[0].get_color() == pictures.PLAIN
    part = type(figure)().subfigures(1, 2)[0]
    pictures.draw_contact_sheet(part, IMAGES[:2], CAPTIONS[:2], columns=2)
    assert len(part.axes) == 2 and not part.get_suptitle()
