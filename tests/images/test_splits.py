"""Splits and slices: the same for every source, each image in the split that its folders say, or refused by name."""

import numpy as np
import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar, write_zip
from tfpipeline.images import held_out_split, split_to_measure_on, splits_of
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.splits import Splits, WholeSplit
from tfpipeline.system import FlagError, UserError

GOOD = encoded(pixels_of(0))
TRAIN, VALID = 23, 10  # images


def rows(count):
    return np.stack([pixels_of(number, 2, 2).transpose(2, 0, 1).ravel() for number in range(count)])


def folder_source(place):
    files = {f"train/{i:03d}.png": GOOD for i in range(TRAIN)} | {f"valid/{i:03d}.png": GOOD for i in range(VALID)}
    return f"folder:{write_folder(place, files)}", sorted(files)


def archive_source(place):
    files = {f"set/{name}": GOOD for name in folder_source(place / "files")[1]}
    return f"archive:{write_tar(place / 'x.tar', files)}", sorted(files)


def npz_source(place):
    place.mkdir()
    counts = {"train_data_batch_1": 13, "train_data_batch_2": TRAIN - 13, "val_data": VALID}
    for name, count in counts.items():
        np.savez(place / f"{name}.npz", data=rows(count), labels=np.ones(count, int))
    return f"npz:{place}", [f"{name}-{i:07d}" for name, count in counts.items() for i in range(count)]


SOURCES = {"folder": folder_source, "archive": archive_source, "npz": npz_source}


def span(first, last, split="train"):
    return [(split, i) for i in range(first, last)]


# What a spec asks for of 23 and 10 images, by hand: 23 * 0.9 = 20.7, 23 * 0.55 = 12.65, 10 * 0.25 = 2.5, to even.
ASKED = {
    "train": span(0, 23),
    "valid": span(0, 10, "valid"),
    "train[:90%]": span(0, 21),
    "train[90%:]": span(21, 23),
    "train[:55%]": span(0, 13),
    "train[55%:]": span(13, 23),
    "valid[:25%]": span(0, 2, "valid"),
    "train[5:9]": span(5, 9),
    "train[-3:]": span(20, 23),
    "train[:-20]": span(0, 3),
    "train[12:14]": span(12, 14),
    "valid+train[:2]": span(0, 10, "valid") + span(0, 2),
    "train[20:] + train[:3]": span(20, 23) + span(0, 3),
    "all": span(0, 23) + span(0, 10, "valid"),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("spec", ASKED)
def test_slices_are_those_of_tfds_for_every_source(tmp_path, kind, spec):
    place, names = SOURCES[kind](tmp_path / "x")
    of_split = {"train": names[:TRAIN], "valid": names[TRAIN:]}
    source = source_of(place, spec)
    assert [name for name, _, _ in source] == [of_split[split][i] for split, i in ASKED[spec]]
    assert source.count == len(ASKED[spec])
    assert source.skipped == []


@pytest.mark.parametrize("spec", ["valid[:10%]+valid[990:]", "train[3:5]"])
def test_slices_of_the_drawn_shapes_are_those_of_the_whole(spec):
    part = list(source_of("shapes", spec))
    whole = list(source_of("shapes", spec[:5], limit=1000))
    positions = [*range(100), *range(990, 1000)] if spec.startswith("valid") else [3, 4]
    assert [name for name, _, _ in part] == [whole[i][0] for i in positions]
    np.testing.assert_array_equal(part[1][1], whole[positions[1]][1])


@pytest.mark.parametrize("kind", [*SOURCES, "shapes"])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("test", r"has no split 'test'; give --split train or valid, or a slice such as train\[90%:\]"),
        ("test[:50%]", "has no split 'test'; give --split train or valid"),
        ("train+test", "has no split 'test'; give --split train or valid"),
        ("train[", r"has no split 'train\[' \(.*\); give --split like train\[:90%\], train\[100:200\] or train\+valid"),
        ("train[:x]", r"has no split 'train\[:x\]'"),
        ("train[::2]", r"has no split 'train\[::2\]'"),
        ("train[3]", r"has no split 'train\[3\]'"),
        ("train[:101%]", r"has no split .*\[-100, 100\]"),
        ("train[:1e9999%]", r"has no split"),
        ("train[:9999999]", r"has no split .*incompatible with [\d]+ examples"),
        ("train+", "has no split"),
        ("", "has no split ''; give --split train or valid"),
        ("train[5:5]", r"--split train\[5:5\] holds no image of"),
        ("train[7:5]", "holds no image"),
        ("train+train", "asks twice for image 0 of split train; give slices that do not overlap"),
        ("train[:10]+valid+train[9:]", "asks twice for image 9 of split train"),
        ("all+valid", "asks twice for image 0 of split valid"),
    ],
)
def test_what_is_no_split_is_a_wrong_flag(tmp_path, kind, spec, message):
    place = "shapes" if kind == "shapes" else SOURCES[kind](tmp_path / "x")[0]
    with pytest.raises(FlagError, match=message):
        list(source_of(place, spec))


def test_splits_are_counted_only_when_they_are_asked_for():
    def never():
        pytest.fail("counted")

    splits = Splits("it", {"train": WholeSplit(lambda: 7), "valid": WholeSplit(never)})
    assert [(part.first, part.last) for part in splits.slices("train[5:]")] == [(5, 7)]


# layout -> split -> its images; those of no split under "".
LAYOUTS = {
    "at the top": {"train": "train/cat/1.png train/dog/1.png", "val": "val/cat/2.png val/dog/2.png"},
    "under one folder": {"train": "p/train/cat/1.png p/train/dog/1.png", "val": "p/val/cat/1.png p/val/dog/1.png"},
    "under three": {"train": "a/b/c/train/cat/1.png a/b/c/train/dog/1.png", "test": "a/b/c/test/cat/1.png"},
    "in capitals": {"Train": "Train/cat/1.png Train/dog/1.png", "TEST": "TEST/cat/1.png TEST/dog/1.png"},
    "other words": {"Training": "Training/cat/1.png Training/dog/1.png", "Testing": "Testing/cat/1.png"},
    "below each class": {"train": "cat/train/1.png dog/train/1.png", "test": "cat/test/1.png dog/test/1.png"},
    "below each class under one folder": {"train": "x/cat/train/1.png x/dog/train/1.png", "dev": "x/cat/dev/1.png"},
    "images beside": {"train": "train/cat/1.png train/dog/1.png", "": "pages/title.png title.png"},
    "an image above": {"train": "p/train/cat/1.png p/train/dog/1.png", "val": "p/val/cat/1.png", "": "title.png"},
    "a class named like a split": {"train": "train/cat/1.png train/dog/1.png", "": "bus/1.png car/2.png"},
    "with years": {
        "train2017": "coco/train2017/cat/1.png coco/train2017/dog/1.png",
        "val2017": "coco/val2017/dog/1.png",
    },
    "with sizes": {
        "train_64x64": "train_64x64/cat/1.png train_64x64/dog/1.png",
        "valid_64x64": "valid_64x64/cat/1.png",
    },
    "in two words": {"Test_Set": "Test_Set/cat/1.png", "Train_Set": "Train_Set/cat/1.png Train_Set/dog/1.png"},
    "all of COCO": {"train2017": "train2017/1.png", "unlabeled2017": "unlabeled2017/1.png", "val2017": "val2017/1.png"},
    "as images": {
        "testimages": "testimages/cat/1.png",
        "train-images": "train-images/cat/1.png train-images/dog/1.png",
    },
    "a class that one split alone has": {"train": "train/cat/1.png train/dog/1.png", "test": "test/dog/1.png"},
}


# What is in the longer names.
WORDS = {
    "train2017": "train",
    "val2017": "val",
    "train_64x64": "train",
    "valid_64x64": "valid",
    "Test_Set": "test",
    "Train_Set": "train",
    "testimages": "test",
    "train-images": "train",
    "Training": "training",
    "unlabeled2017": "unlabeled",
}


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "zip of Windows"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_image_is_in_the_split_of_its_folders_with_its_class(tmp_path, kind, layout):
    images = {split: names.split() for split, names in LAYOUTS[layout].items()}
    files = {name: GOOD for names in images.values() for name in names}
    if kind == "folder":
        spec = f"folder:{write_folder(tmp_path / 'x', files)}"
    elif kind == "tar":
        spec = f"archive:{write_tar(tmp_path / 'x.tar', files)}"
    else:
        names = {name.replace("/", "\\") if "Windows" in kind else name: content for name, content in files.items()}
        spec = f"archive:{write_zip(tmp_path / 'x.zip', names)}"
    splits = sorted(images.keys() - {""})
    assert list(splits_of(ImageFlags(images=spec))) == splits
    for split in splits:
        source = source_of(spec, split)
        found = {name: source.classes[truth][0] if source.classes else None for name, _, truth in source}
        assert found == {
            name: next((c for c in ("cat", "dog") if c in name.split("/")), None) for name in images[split]
        }
        assert [name for name, _, _ in source_of(spec, split.lower())] == images[split]
        assert [name for name, _, _ in source_of(spec, WORDS.get(split, split))] == images[split]
    if beside := images.get(""):
        (note,) = source.notes
        assert f"{len(beside)} images lie beside the folders of splits ({', '.join(splits)})" in note
        assert f"the first {beside[0]}" in note
    else:
        assert source.notes == []
    with pytest.raises(FlagError, match=f"has no split 'eval'; give --split {' or '.join(splits)}, or a slice"):
        list(source_of(spec, "eval"))


@pytest.mark.parametrize(
    "folders",
    [
        ("train station", "bus stop"),
        ("train station", "bullet train"),
        ("train station", "test tube", "bus stop"),
        ("latest", "contest"),
        ("trained", "tested"),
        ("train2017", "train2014"),
        ("cat", "unlabeled"),
        ("cat", "extra"),
    ],
)
def test_folders_of_classes_are_not_taken_for_splits(tmp_path, folders):
    spec = f"folder:{write_folder(tmp_path / 'x', {f'{folder}/1.png': GOOD for folder in folders})}"
    source = source_of(spec)
    assert [name for name, _ in source.classes] == sorted(folders)
    assert len(list(source)) == len(folders)
    alike = (
        "folders with names like those of splits (test tube, train station) are taken for others"
        if "test tube" in folders
        else ""
    )
    assert alike in "".join(source.notes)
    assert bool(source.notes) == bool(alike)
    assert splits_of(ImageFlags(images=spec)) == ("train",)


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        ("valid_64x64.tar", ["valid_64x64/1.png"], ["valid", "val", "validation"]),
        ("valid_64x64.tar", ["1.png"], ["valid", "val", "validation"]),
        ("x.tar", ["ILSVRC2012_img_val/1.png"], ["val", "valid", "validation"]),
        ("Test-images.zip", ["1.png"], ["test", "testing"]),
        ("train_64x64.tar", ["1.png"], ["training"]),
        ("pets.tar", ["cat/1.png", "dog/validated.png"], []),
        ("latest.tar", ["contest/1.png"], []),
    ],
)
def test_without_split_folders_all_are_one_split_which_the_name_may_call_otherwise(tmp_path, name, files, words):
    write = write_zip if name.endswith("zip") else write_tar
    spec = f"archive:{write(tmp_path / name, dict.fromkeys(files, GOOD))}"
    assert splits_of(ImageFlags(images=spec)) == ("train",)
    for word in ["train", *words, "train[:100%]"]:
        assert [image for image, _, _ in source_of(spec, word)] == files
    says = f", or {words[0]} as its name says" if words and words[0] != "training" else ""
    for word in {"valid", "test", "dev"} - set(words):
        with pytest.raises(FlagError) as refusal:
            list(source_of(spec, word))
        refused = f"{name} has no split {word!r}; give --split train, which are all its images{says}: nothing"
        assert refused in str(refusal.value)
        for way_out in ("folders train and valid", "a slice such as train[90%:]", "--hold-out 10%"):
            assert way_out in str(refusal.value)


def test_a_file_of_npz_is_one_split_as_well(tmp_path):
    np.savez(tmp_path / "val_data.npz", data=rows(4), labels=np.ones(4, int))
    for split, count in (("train", 4), ("valid", 4), ("train[:50%]", 2)):
        assert len(list(source_of(f"npz:{tmp_path / 'val_data.npz'}", split))) == count
    with pytest.raises(FlagError, match=r"val_data.npz has no split 'test'; give --split train, which are all"):
        source_of(f"npz:{tmp_path / 'val_data.npz'}", "test")
    assert splits_of(ImageFlags(images=f"npz:{tmp_path}")) == ("valid",)


def test_slices_of_a_split_count_the_same_classes_and_say_which_they_lack(tmp_path):
    files = {f"{label}/{i}.png": GOOD for label in ("ant", "bee", "cow") for i in range(4)}
    spec = f"folder:{write_folder(tmp_path, files)}"
    for split, truth in (("train[:75%]", [0] * 4 + [1] * 4 + [2]), ("train[75%:]", [2] * 3)):
        source = source_of(spec, split)
        assert [index for _, _, index in source] == truth
        assert [name for name, _ in source.classes] == ["ant", "bee", "cow"]
    (note,) = source.notes
    assert "--split train[75%:] holds no image of 2 of 3 classes" in note
    assert "--hold-out 10%" in note
    assert source_of(spec).notes == []


def test_splits_joined_by_plus_count_the_classes_of_all(tmp_path):
    files = ["train/ant/1.png", "train/cow/1.png", "valid/bee/1.png", "valid/cow/1.png"]
    source = source_of(f"folder:{write_folder(tmp_path, dict.fromkeys(files, GOOD))}", "train+valid")
    assert [(name, source.classes[truth][0]) for name, _, truth in source] == [
        ("train/ant/1.png", "ant"), ("train/cow/1.png", "cow"), ("valid/bee/1.png", "bee"), ("valid/cow/1.png", "cow"),
    ]  # fmt: skip


def test_the_truth_of_a_slice_is_that_of_its_split(tmp_path):
    spec, names = folder_source(tmp_path / "x")
    lines = [f"{name},n{i % 3},{i % 3}" for i, name in enumerate(names[:TRAIN])]
    (tmp_path / "truth.csv").write_text("\n".join(["file,wnid,class_index", *lines]) + "\n")
    part = source_of(spec, "train[20:]", truth=str(tmp_path / "truth.csv"))
    assert [truth for _, _, truth in part] == [2, 0, 1]
    with pytest.raises(UserError, match="10 images without a row"):
        list(source_of(spec, "train[20:]+valid[:1]", truth=str(tmp_path / "truth.csv")))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "valid"), "valid"),
        (("test", "train", "validation"), "validation"),
        (("Test", "Train"), "Test"),
        (("train2017", "val2017"), "val2017"),
        (("test", "training", "dev"), "dev"),
        (("train",), None),
        (("train", "unlabeled"), None),
        ((), None),
    ],
)
def test_the_split_to_measure_on(names, expected):
    assert held_out_split(names) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/1.png", "val/1.png"], "val"),
        (["cat/1.png", "dog/1.png"], "train"),
        (["test/1.png"], "test"),
        (["train/1.png"], "train"),
    ],
)
def test_images_given_to_measure_on_are_measured_whole_or_on_their_held_out_split(tmp_path, files, expected):
    images = ImageFlags(images=f"folder:{write_folder(tmp_path / 'x', dict.fromkeys(files, GOOD))}", split="never")
    assert split_to_measure_on(images) == expected


def test_of_several_splits_none_of_which_is_held_out_one_must_be_named(tmp_path):
    images = ImageFlags(images=f"folder:{write_folder(tmp_path / 'x', {'train/1.png': GOOD, 'training/2.png': GOOD})}")
    with pytest.raises(FlagError, match="has the splits train, training; say which one is to be measured on"):
        split_to_measure_on(images)


def test_splits_below_some_classes_alone_are_none_and_that_is_said(tmp_path):
    files = dict.fromkeys(("cat/train/1.png", "cat/test/1.png", "dog/1.png"), GOOD)
    source = source_of(f"folder:{write_folder(tmp_path / 'x', files)}")
    assert [(name, source.classes[truth][0]) for name, _, truth in source] == [
        ("cat/test/1.png", "cat"), ("cat/train/1.png", "cat"), ("dog/1.png", "dog"),
    ]  # fmt: skip
    assert source.notes == [
        "folder:x: folders with names like those of splits (test, train) are taken for others, because not every image"
        " lies in one"
    ]
