"""Folders, archives and truth files, opened to the same images in the same order."""

import subprocess
import sys

import numpy as np
import pytest

from tests.support.images import source_of, store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar, write_zip
from tests.support.repository import ROOT
from tfpipeline.system.errors import FlagError, UserError

NAMES = ("b/10.png", "b/2.png", "a/3.png", "a/1.png", "c/x.png")
FILES = {name: encoded(pixels_of(i)) for i, name in enumerate(NAMES)}


def containers(tmp_path, files):
    return {
        "folder": f"folder:{write_folder(tmp_path / 'folder', files)}",
        "tar": f"archive:{write_tar(tmp_path / 'images.tar', files)}",
        "tar.gz": f"archive:{write_tar(tmp_path / 'images.tar.gz', files, 'w:gz')}",
        "tgz": f"archive:{write_tar(tmp_path / 'images.tgz', files, 'w:gz')}",
        "tar.xz": f"archive:{write_tar(tmp_path / 'images.tar.xz', files, 'w:xz')}",
        "tar.bz2": f"archive:{write_tar(tmp_path / 'images.tar.bz2', files, 'w:bz2')}",
        "zip": f"archive:{write_zip(tmp_path / 'images.zip', files)}",
    }


KINDS = ("folder", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2", "zip")


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_sorted_by_name_with_the_class_of_their_folder(tmp_path, kind):
    source = source_of(containers(tmp_path, FILES)[kind])
    assert source.count == 5
    assert source.classes == (("a", "a"), ("b", "b"), ("c", "c"))
    for _ in range(2):
        images = list(source)
        assert [(name, truth) for name, _, truth in images] == [
            ("a/1.png", 0), ("a/3.png", 0), ("b/10.png", 1), ("b/2.png", 1), ("c/x.png", 2),
        ]  # fmt: skip
        for name, pixels, _ in images:
            np.testing.assert_array_equal(pixels, pixels_of(NAMES.index(name)))
            assert pixels.dtype == np.uint8
            assert pixels.flags.c_contiguous


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_not_named_like_images_or_are_hidden_are_left_out(tmp_path, kind):
    others = {
        "README.txt": b"text", "a/.DS_Store": b"\0", "__MACOSX/a/._1.png": b"\0", "a/._1.png": b"\0",
        ".git/x.png": b"\0", "b/Thumbs.db": b"\0",
    }  # fmt: skip
    assert [name for name, _, _ in source_of(containers(tmp_path, FILES | others)[kind])] == sorted(NAMES)


def test_limit_takes_the_first(tmp_path):
    source = source_of(containers(tmp_path, FILES)["tar"], limit=2)
    assert source.count == 2
    assert [name for name, _, _ in source] == ["a/1.png", "a/3.png"]


def test_images_in_one_folder_have_no_truth(tmp_path):
    files = {f"train_64x64/{i}.png": encoded(pixels_of(i)) for i in range(3)}
    source = source_of(containers(tmp_path, files)["tar"])
    assert source.classes == ()
    assert [truth for _, _, truth in source] == [None] * 3


def test_classes_count_below_the_folders_that_all_share(tmp_path):
    files = {f"set/images/{name}": content for name, content in FILES.items()}
    source = source_of(containers(tmp_path, files)["zip"])
    assert source.classes == (("a", "a"), ("b", "b"), ("c", "c"))


@pytest.mark.parametrize("kind", KINDS)
def test_folders_named_like_splits_are_the_splits(tmp_path, kind):
    files = {f"{split}/{name}": FILES[name] for split, name in [("train", "a/1.png"), ("train", "b/2.png")]}
    files["val/c/x.png"] = FILES["c/x.png"]
    spec = containers(tmp_path, files)[kind]
    assert [name for name, _, _ in source_of(spec)] == ["train/a/1.png", "train/b/2.png"]
    assert [name for name, _, _ in source_of(spec, "val")] == ["val/c/x.png"]
    with pytest.raises(FlagError, match=r"has no split 'valid'; give --split train or val"):
        list(source_of(spec, "valid"))


def test_the_spec_does_not_change_when_the_files_move(tmp_path):
    first = source_of(f"folder:{write_folder(tmp_path / 'one' / 'pets', FILES)}")
    second = source_of(f"folder:{write_folder(tmp_path / 'two' / 'pets', FILES)}")
    assert first.spec == second.spec == "folder:pets"
    assert first.depends_on != second.depends_on


@pytest.mark.parametrize("size", [3, 5, 9])
def test_size_takes_the_centered_square(tmp_path, size):
    striped = np.zeros((20, 60, 3), np.uint8)
    striped[:, 20:40] = (10, 200, 30)
    source = source_of(f"folder:{write_folder(tmp_path, {'x.png': encoded(striped)})}", size=size)
    ((_, pixels, _),) = source
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8([10, 200, 30]), (size, size, 3)))


def test_shrinking_averages_boxes(tmp_path):
    source = source_of(f"folder:{write_folder(tmp_path, {'x.png': encoded(pixels_of(0, 8, 8))})}", size=4)
    ((_, pixels, _),) = source
    # Pillow averages rows first, then columns, each rounded to a byte.
    rows = np.floor(pixels_of(0, 8, 8).reshape(8, 4, 2, 3).mean(axis=2) + 0.5)
    np.testing.assert_array_equal(pixels, np.floor(rows.reshape(4, 2, 4, 3).mean(axis=1) + 0.5))


def test_shapes_have_more_pictures_than_their_default_count():
    assert (source_of("shapes").count, source_of("shapes", "valid").count) == (6000, 1000)
    images = list(source_of("shapes", "valid", limit=3, size=32))
    assert [(name, truth) for name, _, truth in images] == [
        ("valid-0000000", 0), ("valid-0000001", 1), ("valid-0000002", 2),
    ]  # fmt: skip
    assert images[0][1].shape == (32, 32, 3)
    assert source_of("shapes", limit=1_000_000).count == 1_000_000


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("folder:/no/such/place", {}, "no such file or folder: /no/such/place"),
        ("archive:/no/such.tar", {}, "no such file or folder: /no/such.tar"),
        ("archive:", {}, "--images archive: names no place; give archive: and a path"),
        ("shapes", {"split": "test"}, "shapes has no split 'test'; give --split train or valid"),
        ("shapes", {"truth": "truth.csv"}, "--truth does not go with --images shapes; leave it out"),
        ("shapes", {"archives": "."}, "--archives does not go with --images shapes"),
        ("folder:.", {"data_dir": "."}, "--data-dir does not go with --images folder:."),
        ("npz:.", {"truth": "truth.csv"}, "--truth does not go with --images npz:."),
        ("shapes", {"size": 0}, "--size is 0; it must be at least 1"),
        ("shapes", {"limit": -1}, "--limit is -1; it must be at least 1"),
    ],
)
def test_wrong_specs_are_refused_at_once(spec, options, message):
    with pytest.raises(UserError, match=message):
        source_of(spec, **options)


@pytest.mark.parametrize(
    ("spec", "offer"),
    [
        ("./photos", "folder:./photos"),
        ("photos", "folder:photos"),
        ("photos/cats", "folder:photos/cats"),
        ("../{here}/photos", "folder:../{here}/photos"),
        ("{tmp}/photos", "folder:{tmp}/photos"),
        ("~/photos", "folder:~/photos"),
        ("photos.zip", "archive:photos.zip"),
        ("./my photos.tar", "archive:./my photos.tar"),
        ("val_data.npz", "npz:val_data.npz"),
        ("./imagenet", "npz:./imagenet"),
        ("tables", "parquet:tables"),
        ("tables/train.parquet", "parquet:tables/train.parquet"),
        ("parqet:tables", "parquet:tables"),
        ("HF:people/pets", "hf:people/pets"),
        ("floder:photos", "folder:photos"),
        ("Folder:photos", "folder:photos"),
        ("archiv:photos.zip", "archive:photos.zip"),
        ("./nowhere", None),
        ("{tmp}/nowhere.tar", None),
        ("two words", None),
        ("cifar-10", None),
    ],
)
def test_a_place_without_its_kind_is_offered_with_it(tmp_path, monkeypatch, spec, offer):
    write_folder(
        tmp_path,
        dict.fromkeys(("photos/cats/1.png", "imagenet/val_data.npz", "val_data.npz", "tables/train.parquet"), b""),
    )
    for name in ("photos.zip", "my photos.tar"):
        write_zip(tmp_path / name, FILES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spec, offer = (text and text.format(tmp=tmp_path, here=tmp_path.name) for text in (spec, offer))
    with pytest.raises(FlagError) as refusal:
        source_of(spec)
    question = f"; did you mean {offer}?" if offer else ""
    assert str(refusal.value) == (
        f"--images {spec} is not known{question}; give shapes, folder:DIR, archive:FILE, parquet:FILE, hf:OWNER/NAME,"
        " webdataset:FILE, npz:FILE or a TFDS name like cifar10"
    )


@pytest.mark.parametrize("spec", ["folder:~no-such-user/x", "~no-such-user/x", "folder:{tmp}"])
def test_homes_that_nobody_knows_are_named(tmp_path, spec):
    spec, truth = spec.format(tmp=tmp_path), "~no-such-user/x" if "{" in spec else None
    with pytest.raises(FlagError, match=r"~no-such-user/x: the home directory is not known .*give the path without ~"):
        source_of(spec, truth=truth)


@pytest.mark.parametrize("folder", ["[lr=0.1]", "a*b", "what?", "[!x]", "{a,b}", "$HOME", "~", "per%cent", "-x"])
@pytest.mark.parametrize("kind", ["folder", "tar", "npz"])
def test_paths_are_never_patterns(tmp_path, folder, kind):
    place = tmp_path / folder / folder
    place.mkdir(parents=True)
    if kind == "npz":
        np.savez(place / "train_data_batch_1.npz", data=np.zeros((2, 12), np.uint8), labels=np.ones(2, int))
        assert len(store_of(f"npz:{place}", cache=tmp_path / folder / "cache")) == 2
    else:
        store = store_of(containers(place, FILES)[kind], cache=tmp_path / folder / "cache")
        assert store.names == sorted(NAMES)


def test_unreadable_images_are_counted_and_the_first_ones_named(tmp_path):
    files = FILES | {f"d/{i}.png": b"" for i in range(7)}
    spec = containers(tmp_path, files)["tar"]
    with pytest.raises(UserError) as refusal:
        list(source_of(spec))
    named = "; ".join(f"image d/{i}.png is empty" for i in range(5))
    assert str(refusal.value) == (
        f"archive:images.tar: 7 of 12 images cannot be read: {named}; and 2 more; get them again, or --skip-broken"
        " leaves such images out and lists them"
    )
    source = source_of(spec, skip_broken=True)
    assert len(list(source)) == 5
    assert source.skipped == [f"d/{i}.png" for i in range(7)]


def test_a_limit_counts_images_that_can_be_read(tmp_path):
    spec = containers(tmp_path, FILES | {"a/0.png": b"", "z/9.png": b""})["folder"]
    assert [name for name, _, _ in source_of(spec, limit=2, skip_broken=True)] == ["a/1.png", "a/3.png"]
    with pytest.raises(UserError, match=r"image a/0\.png is empty"):
        list(source_of(spec, limit=2))


def test_folders_and_archives_are_not_taken_for_each_other(tmp_path):
    archive = write_tar(tmp_path / "x.tar", FILES)
    with pytest.raises(FlagError, match=r"is a folder; give --images folder:"):
        source_of(f"archive:{tmp_path}")
    with pytest.raises(FlagError, match=r"is a file; give --images archive:"):
        source_of(f"folder:{archive}")


def test_tensorflow_is_imported_only_for_its_datasets(tmp_path):
    write_folder(tmp_path, FILES)
    code = (
        "import sys\n"
        "from tfpipeline.images import flags, sources, store\n"
        f"list(sources.open_source(flags.ImageFlags(images={f'folder:{tmp_path}'!r})))\n"
        "print(sorted({'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_a_thousand_real_images_join_their_truth(real_data):
    folder = real_data / "imagenet64"
    spec = f"archive:{folder / 'thousand_64x64.tar'}"
    source = source_of(spec, truth=folder / "thousand_truth.csv")
    images = list(source)
    assert [truth for _, _, truth in images] == list(range(1000))
    assert {pixels.shape for _, pixels, _ in images} == {(64, 64, 3)}
    assert source.classes[1] == ("n01443537", "goldfish, Carassius auratus")
    with pytest.raises(UserError, match=r"train_truth.csv does not match the images: 16,000 rows without an image"):
        source_of(spec, truth=folder / "train_truth.csv").count  # noqa: B018 - asking for the count joins
