"""Every file of a random folder or archive is an image that is read, one refused by name, or counted as left out.

What each file is, its split and its class are worked out here from the stated rules, by other means than the program's.
"""

import contextlib
import pathlib
import tempfile
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, strategies

from tests.support.fuzz import fuzz
from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar, write_zip
from tfpipeline.images import splits_of
from tfpipeline.images.flags import ImageFlags
from tfpipeline.system import FlagError, UserError

SPLITS = ("train", "valid", "val", "test", "Train", "TEST", "validation")
CLASSES = ("cat", "dog", "caf\u00e9", "cafe\u0301", "a b", "[x]", "$1")
IGNORED = ("@eaDir", ".git", "__MACOSX", "$RECYCLE.BIN", "lost+found", ".Trash-1")
FOLDERS = strategies.sampled_from([*SPLITS, *CLASSES, *CLASSES, *IGNORED, "set"])
IMAGES = ("1.png", "2.PNG", "3.jpg", "\u753b\u50cf.png", "x.jpeg", "y.webp", "line\nbreak.png")
OTHERS = ("README", "notes.txt", ".hidden.png", "._1.png", "Thumbs.db", "labels.csv", "1.png.txt")
PATHS = strategies.builds(
    lambda folders, file: "/".join([*folders, file]),
    strategies.lists(FOLDERS, max_size=4),
    strategies.sampled_from([*IMAGES, *IMAGES, *OTHERS]),
)
GOOD, BROKEN = "good", "broken"
TREES = strategies.dictionaries(PATHS, strategies.sampled_from([GOOD, GOOD, GOOD, BROKEN]), min_size=1, max_size=14)
KINDS = ("folder", "tar", "tar.gz", "zip", "zip of Windows")


def put(place, kind, files):
    """The spec of a folder or an archive of these files."""
    if kind == "folder":
        return f"folder:{write_folder(place / 'pets', files)}"
    if kind.startswith("zip"):
        names = {name.replace("/", "\\") if "Windows" in kind else name: content for name, content in files.items()}
        return f"archive:{write_zip(place / 'pets.zip', names)}"
    return f"archive:{write_tar(place / 'pets.tar', files, 'w:gz' if kind == 'tar.gz' else 'w')}"


def is_left_out(path):
    parts = path.split("/")
    ignored = {*IGNORED, "Thumbs.db"}
    is_image = parts[-1].lower().endswith((".png", ".jpg", ".jpeg", ".webp"))
    return not is_image or any(part in ignored or part.startswith(".") for part in parts)


def is_split(folder):
    return folder in SPLITS


def split_of_each(images):
    """path -> split folder or None; {} where there are no split folders."""
    inner = list(images)
    above = ""
    while True:
        first = {path[len(above) :].split("/")[0] for path in inner if "/" in path[len(above) :]}
        if any(map(is_split, first)):
            found = {}
            for path in images:
                rest = path[len(above) :] if path.startswith(above) else ""
                found[path] = rest.split("/")[0] if "/" in rest and is_split(rest.split("/")[0]) else None
            return found
        if len(first) != 1:
            break
        above += f"{first.pop()}/"
        inner = [path for path in inner if path.startswith(above)]
    found = {path: next((part for part in path.split("/")[:-1] if is_split(part)), None) for path in images}
    return {} if None in found.values() else found


def class_of_each(images, split_of):
    """path -> class, where the folders tell any; else None for each."""
    folders = []
    for path in images:
        parts = path.split("/")[:-1]
        if split_of:
            del parts[next(i for i, part in enumerate(parts) if is_split(part))]
        folders.append([unicodedata.normalize("NFC", part) for part in parts])
    for column in zip(*folders, strict=False):
        if len(set(column)) > 1:
            return dict(zip(images, column, strict=True))
    return dict.fromkeys(images)


def name_of(path):
    return path.replace("\n", "\\n")


@fuzz(100)
@given(TREES, strategies.sampled_from(KINDS))
@example({"train/cat/1.png": GOOD, "train/dog/1.png": GOOD, "valid/cat/1.png": GOOD, "1.png": GOOD}, "tar")
@example({"set/train/cat/1.png": GOOD, "set/test/cat/1.png": GOOD, "set/test/dog/1.png": BROKEN}, "zip of Windows")
@example({"cat/train/1.png": GOOD, "dog/train/1.png": GOOD, "dog/val/1.png": GOOD}, "folder")
@example({"caf\u00e9/1.png": GOOD, "cafe\u0301/1.png": GOOD, "dog/1.png": GOOD}, "tar.gz")
def test_images_found_are_read_or_refused_and_other_files_are_counted(tree, kind):
    with tempfile.TemporaryDirectory() as place:
        contents = {path: encoded(pixels_of(i, 2, 2)) for i, path in enumerate(tree)}
        files = {path: contents[path] if state == GOOD else b"broken" for path, state in tree.items()}
        spec = put(pathlib.Path(place), kind, files)
        check(spec, tree, {name_of(path): pixels_of(i, 2, 2) for i, path in enumerate(tree)})


def check(spec, tree, pixels):
    images = sorted((path for path in tree if not is_left_out(path)), key=name_of)
    if not images:
        with pytest.raises(UserError, match="holds no images"):
            splits_of(ImageFlags(images=spec))
        return
    split_of = split_of_each(images)
    splits = sorted({split for split in split_of.values() if split}) or ["train"]
    assert sorted(splits_of(ImageFlags(images=spec))) == splits
    of_split = {split: [path for path in images if split_of.get(path, "train") == split] for split in splits}
    every = [path for split in splits for path in of_split[split]]
    seen = 0
    for split in splits:
        expected = of_split[split]
        labels = class_of_each(expected, split_of)
        if not any(labels.values()):
            labels = class_of_each(every, split_of)
        broken = [path for path in expected if tree[path] == BROKEN]
        source = source_of(spec, split, skip_broken=True)
        found = {name: (image, truth) for name, image, truth in source}
        assert list(found) == [name_of(path) for path in expected if path not in broken]
        assert source.skipped == list(map(name_of, broken))
        assert len(source.classes) == len(set(labels.values()) - {None})
        for path in set(expected) - set(broken):
            image, truth = found[name_of(path)]
            np.testing.assert_array_equal(image, pixels[name_of(path)])
            label = None if truth is None else unicodedata.normalize("NFC", source.classes[truth][0])
            assert label == labels[path]
        with pytest.raises(UserError, match=r"cannot be read|is none of") if broken else contextlib.nullcontext():
            list(source_of(spec, split))
        seen += len(found) + len(source.skipped)
    beside, left_out = len(images) - len(every), len(tree) - len(images)
    assert seen + beside + left_out == len(tree)
    notes = " ".join(source.notes)
    assert (f"files left out: {left_out} (" in notes) == (left_out > 0)
    assert (f"{beside} images lie beside the folders of splits" in notes) == (beside > 0)
    with pytest.raises(FlagError, match="has no split 'eval'"):
        list(source_of(spec, "eval"))
