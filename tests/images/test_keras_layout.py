"""Folders as Keras reads them: `folder:` counts the classes of `keras.utils.image_dataset_from_directory`."""

import keras
import numpy as np
import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder

# Names that other orders would sort otherwise: by case, by number, or with the folder's slash counted.
CLASSES = ("a", "a b", "a-b", "B", "b", "10", "9", "_x", "z.y", "\u00e9t\u00e9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    paths = [f"{name}/{i}.png" for name in CLASSES for i in (2, 10)] + ["a/deeper/1.png"]
    write_folder(root, {path: encoded(pixels_of(number)) for number, path in enumerate(paths)})
    write_folder(root, {".hidden/1.png": encoded(pixels_of(0)), "a/notes.txt": b"no image"})
    return root


def test_classes_and_their_order_are_those_of_keras(folder):
    source = source_of(f"folder:{folder}")
    of_keras = keras.utils.image_dataset_from_directory(
        str(folder), shuffle=False, batch_size=None, image_size=(5, 7), verbose=False
    )
    assert [name for name, _ in source.classes] == of_keras.class_names == sorted(CLASSES)
    expected = {np.uint8(pixels).tobytes(): int(label) for pixels, label in of_keras.as_numpy_iterator()}
    found = {pixels.tobytes(): truth for _, pixels, truth in source}
    assert len(found) == 2 * len(CLASSES) + 1
    assert found == expected
