import itertools

import numpy as np
import pytest
from PIL import Image

from jobs import show_augmentation
from tests.support.label_stores import labels
from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.system.errors import FlagError
from tfpipeline.system.flags import from_flat


def config_of(**values):
    return from_flat(show_augmentation.Config, values)


def test_the_views_are_those_that_training_sees():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    change = parse_augmentation("alternate,translate:2,color:20", 12)
    batches = TrainingBatches(images, {}, 4, 3, change)
    views = show_augmentation.show_epochs(batches, 5, 2)
    assert np.array_equal(views[:, 0], images[:5])
    for step, batch in enumerate(itertools.islice(batches.from_step(0).as_numpy_iterator(), 6)):
        for index, image in zip(batch["index"], batch["images"], strict=True):
            if index < 5:
                assert np.array_equal(views[index, 1 + step // 3], image)


def test_the_contact_sheet_is_written(tmp_path):
    config = config_of(
        images="shapes", limit=4, cache=str(tmp_path), quiet=True, out=str(tmp_path / "sheet.png"), count=3, epochs=2
    )
    figures = show_augmentation.run(config)
    assert figures["images"] == 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 200 and sheet.height > 200


def test_the_views_of_a_label_store_are_shown(tmp_path):
    labels(tmp_path / "labels", views=("flip",))
    images = {"images": "shapes", "limit": 4, "cache": str(tmp_path), "quiet": True}
    config = config_of(
        **images, out=str(tmp_path / "sheet.png"), augment="replay", labels=str(tmp_path / "labels"), count=2, epochs=1
    )
    assert show_augmentation.run(config)["images"] == 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"count": 0}, "--count is 0"),
        ({"augment": "twirl"}, "--augment twirl: there is no twirl"),
        ({"augment": "replay"}, "--augment replay: there are no answers to views"),
    ],
)
def test_wrong_flags_are_refused_before_images_are_read(tmp_path, change, text):
    flags = {"images": "folder:nowhere", "out": str(tmp_path / "sheet.png"), **change}
    with pytest.raises(FlagError, match=text):
        show_augmentation.run(config_of(**flags))
