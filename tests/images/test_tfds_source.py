"""TensorFlow Datasets as a source: its own builders on small archives in the real layout, without a network."""

import io
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.support.images import source_of, store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar, write_zip
from tests.support.processes import Child
from tfpipeline.images import tfds_preparing
from tfpipeline.images.npz_source import resized_order
from tfpipeline.system.errors import FlagError, Stopped, UserError

CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A request would mean that the builder was asked to download although all files are at hand."""
    monkeypatch.setattr(tfds_preparing.requests, "head", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setattr("requests.Session.request", lambda *_, **__: pytest.fail("asked the network"))


def npz(numbers, labels):
    """The bytes of a file of the downsampled ImageNet: rows of channels first, labels from 1."""
    file = io.BytesIO()
    rows = [pixels_of(number, 64, 64).transpose(2, 0, 1).ravel() for number in numbers]
    np.savez(file, data=np.stack(rows), labels=np.array(labels), mean=np.zeros(3))
    return file.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    for split, numbers in (("train", range(6)), ("valid", range(6, 9))):
        files = {f"{split}_64x64/{n:07d}.png": encoded(pixels_of(n, 64, 64)) for n in numbers}
        write_tar(folder / f"{split}_64x64.tar", files)
    write_zip(folder / "Imagenet64_train_part1_npz.zip", {"train_data_batch_1.npz": npz(range(4), [1, 2, 1000, 3])})
    write_zip(folder / "Imagenet64_train_part2_npz.zip", {"train_data_batch_6.npz": npz(range(4, 6), [500, 1])})
    write_zip(folder / "Imagenet64_val_npz.zip", {"val_data.npz": npz(range(6, 9), [7, 8, 9])})
    batches = {
        f"cifar-10-batches-bin/{name}.bin": b"".join(
            bytes([n % 10]) + pixels_of(n, 32, 32).transpose(2, 0, 1).tobytes() for n in numbers
        )
        for name, numbers in [
            *((f"data_batch_{i}", range(3 * i, 3 * i + 3)) for i in range(1, 6)),
            ("test_batch", (1, 2)),
        ]
    }
    meta = {"cifar-10-batches-bin/batches.meta.txt": ("\n".join(CIFAR_NAMES) + "\n\n").encode()}
    write_tar(folder / "cifar-10-binary.tar.gz", meta | batches, "w:gz")
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


def numbers_of(source, height, width):
    """truth by the number of the picture, which its pixels tell"""
    known = {pixels_of(n, height, width).tobytes(): n for n in range(20)}
    return {known[pixels.tobytes()]: truth for _, pixels, truth in source}


def test_cifar10_from_its_archive(archives, tmp_path):
    test = source_of("cifar10", "test", archives=archives, data_dir=tmp_path)
    assert test.count == 2
    assert [name for name, _ in test.classes] == CIFAR_NAMES
    assert numbers_of(test, 32, 32) == {1: 1, 2: 2}
    assert "cifar-10-binary.tar.gz has" in test.notes[0]
    assert "the published one 170,052,171: it is taken as it is" in test.notes[0]
    again = source_of("cifar10", "train", data_dir=tmp_path)
    assert again.notes == []
    assert numbers_of(again, 32, 32) == {n: n % 10 for n in range(3, 18)}


def test_downsampled_imagenet_from_its_archives_and_straight_from_the_tar(archives, data_dir):
    source = source_of("downsampled_imagenet/64x64", archives=archives, data_dir=data_dir)
    assert numbers_of(source, 64, 64) == dict.fromkeys(range(6))
    assert numbers_of(source_of(f"archive:{archives / 'train_64x64.tar'}"), 64, 64) == dict.fromkeys(range(6))
    validation = source_of("downsampled_imagenet/64x64", "validation", data_dir=data_dir)
    assert numbers_of(validation, 64, 64) == dict.fromkeys(range(6, 9))


def test_imagenet_resized_in_the_usual_order_of_classes(archives, data_dir):
    source = source_of("imagenet_resized/64x64", archives=archives, data_dir=data_dir)
    wnids = [wnid for wnid, _ in source.classes]
    assert wnids == sorted(wnids)
    assert len(wnids) == 1000
    own = resized_order()
    expected = dict(enumerate(own[label - 1] for label in [1, 2, 1000, 3, 500, 1]))
    assert {number: wnids[truth] for number, truth in numbers_of(source, 64, 64).items()} == expected
    assert wnids[0] == "n01440764"


def test_the_three_are_told_apart(archives, data_dir, tmp_path):
    specs = ("downsampled_imagenet/64x64", "imagenet_resized/64x64", f"archive:{archives / 'train_64x64.tar'}")
    stores = []
    for spec in specs:
        options = {} if spec.startswith("archive:") else {"archives": archives, "data_dir": data_dir}
        stores.append(store_of(spec, cache=tmp_path, **options))
    assert [len(store) for store in stores] == [6, 6, 6]
    assert len({store.fingerprint for store in stores}) == 3


@pytest.mark.parametrize("form", ["array_record", "parquet"])
def test_other_formats_of_files_hold_the_same_images(archives, data_dir, tmp_path, form):
    builder = tfds.builder("cifar10", data_dir=tmp_path, file_format=form)
    tfds_preparing.prepare(builder, archives)
    expected = source_of("cifar10", "train[2:9]+test", archives=archives, data_dir=data_dir)
    found = source_of("cifar10", "train[2:9]+test", data_dir=tmp_path)
    assert found.classes == expected.classes
    for (name, pixels, truth), (like, same, class_index) in zip(found, expected, strict=True):
        assert (name, truth) == (like.replace("tfrecord", form), class_index)
        np.testing.assert_array_equal(pixels, same)


@pytest.mark.parametrize("form", ["array_record", "tfrecord"])
@pytest.mark.parametrize("length", [13, 17])
def test_a_description_that_counts_other_examples_than_the_files_hold_is_refused(archives, tmp_path, form, length):
    tfds_preparing.prepare(tfds.builder("cifar10", data_dir=tmp_path, file_format=form), archives)
    (path,) = tmp_path.rglob("dataset_info.json")
    path.write_text(re.sub(r'"15"', f'"{length}"', path.read_text()))
    with pytest.raises(UserError, match=rf"cannot be read .*{length}.*; remove that directory and let it be prepared"):
        list(source_of("cifar10", data_dir=tmp_path))


def test_half_a_file_of_array_records_is_refused(archives, tmp_path):
    tfds_preparing.prepare(tfds.builder("cifar10", data_dir=tmp_path, file_format="array_record"), archives)
    (path,) = tmp_path.rglob("*train.array_record*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cannot be read .*; remove that directory and let it be prepared again"):
        list(source_of("cifar10", data_dir=tmp_path))


def test_order_names_and_slices_stay_the_same(archives, data_dir):
    whole = list(source_of("cifar10", archives=archives, data_dir=data_dir))
    assert len({name for name, _, _ in whole}) == 15
    for split, part in (("train[:4]", slice(4)), ("train[4:]", slice(4, None))):
        source = source_of("cifar10", split, data_dir=data_dir)
        assert source.count == len(whole[part])
        for (name, pixels, truth), expected in zip(source, whole[part], strict=True):
            assert (name, truth) == (expected[0], expected[2])
            np.testing.assert_array_equal(pixels, expected[1])
    limited = source_of("cifar10", limit=3, size=8, data_dir=data_dir)
    assert [(name, pixels.shape) for name, pixels, _ in limited] == [(name, (8, 8, 3)) for name, _, _ in whole[:3]]


def test_gray_images_and_broken_ones_follow_the_same_rules(archives, data_dir, tmp_path):
    for split in ("train", "valid"):
        write_tar(
            tmp_path / f"{split}_64x64.tar",
            {"x/1.png": encoded(pixels_of(1)[..., 0]), "x/2.png": encoded(pixels_of(2))[:-40]},
        )
    options = {"archives": tmp_path, "data_dir": tmp_path / "prepared"}
    with pytest.raises(UserError, match=r"image downsampled_imagenet-train.tfrecord.* is truncated; .* --skip-broken"):
        list(source_of("downsampled_imagenet/64x64", **options))
    source = source_of("downsampled_imagenet/64x64", skip_broken=True, **options)
    ((_, pixels, _),) = source
    np.testing.assert_array_equal(pixels, np.repeat(pixels_of(1)[..., :1], 3, axis=2))
    assert len(source.skipped) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar1", {}, "--images cifar1 is not known"),
        ("cifar10/nothing", {}, "--images cifar10/nothing: .*"),
        ("ag_news_subset", {}, "has no feature 'image' of bytes, only"),
        ("cifar10", {"split": "valid"}, "no split 'valid'; give --split train or test, or a slice"),
        ("cifar10", {"split": "train[:x]"}, "no split 'train\\[:x\\]'"),
        ("cifar10", {"split": "train+train[:3]"}, "asks twice for image 0 of split train"),
        ("cifar10", {"split": "test[2:2]"}, r"--split test\[2:2\] holds no image of cifar10"),
        ("cifar10:9.9.9", {}, "--images cifar10:9.9.9: .*"),
        ("Cifar 10", {}, "--images Cifar 10 is not known"),
    ],
)
def test_wrong_names_and_splits_are_wrong_flags(archives, data_dir, name, options, message):
    with pytest.raises(FlagError, match=message):
        source_of(name, archives=archives, data_dir=data_dir, **options)


def test_what_cannot_be_had_is_refused_at_once_with_the_ways_out(tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError) as refusal:
        source_of("downsampled_imagenet/64x64", data_dir=tmp_path)
    assert time.monotonic() - start < 5  # The limit that people are promised; TFDS alone takes minutes.
    for way in (
        "tensorflow/datasets#4662",
        "--data-dir",
        "--archives",
        "train_64x64.tar and valid_64x64.tar",
        "archive:",
    ):
        assert way in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_datasets_that_want_files_from_the_person_say_so(tmp_path):
    with pytest.raises(UserError, match=r"imagenet2012/.* cannot be downloaded: it wants files from you. Ways out"):
        source_of("imagenet2012", data_dir=tmp_path)
    (tmp_path / "archives").mkdir()
    with pytest.raises(UserError, match=r"imagenet2012/.* could not be prepared \(.*ILSVRC2012_img_train.tar"):
        source_of("imagenet2012", data_dir=tmp_path / "prepared", archives=tmp_path / "archives")


def test_a_missing_archive_is_named(archives, tmp_path):
    write_tar(tmp_path / "train_64x64.tar", {"train_64x64/1.png": encoded(pixels_of(1))})
    with pytest.raises(UserError, match=rf"{tmp_path} has no valid_64x64.tar. Ways out"):
        source_of("downsampled_imagenet/64x64", archives=tmp_path, data_dir=tmp_path / "prepared")
    with pytest.raises(UserError, match=r"no such folder: .*nowhere; check --archives"):
        source_of("cifar10", archives=tmp_path / "nowhere", data_dir=tmp_path / "prepared")


def test_a_damaged_archive_leaves_nothing_prepared(archives, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes((archives / "cifar-10-binary.tar.gz").read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"cifar10/3.0.2 could not be prepared"):
        source_of("cifar10", archives=tmp_path, data_dir=tmp_path / "prepared")
    assert [path.name for path in (tmp_path / "prepared").rglob("*") if path.is_file()] == []


def test_sigterm_while_preparing_leaves_nothing(archives, tmp_path, monkeypatch):
    whole = tfds.builder_cls("cifar10")._generate_examples

    def stopped_half_way(self, *arguments):
        for i, example in enumerate(whole(self, *arguments)):
            if i == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            yield example

    with monkeypatch.context() as patch:
        patch.setattr(tfds.builder_cls("cifar10"), "_generate_examples", stopped_half_way)
        with pytest.raises(Stopped, match=r"stopped while cifar10/3.0.2 was prepared; nothing of it is kept"):
            source_of("cifar10", archives=archives, data_dir=tmp_path / "prepared")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert source_of("cifar10", archives=archives, data_dir=tmp_path / "prepared").count == 15


def paths_below(directory):
    return sorted(path.relative_to(directory) for path in directory.rglob("*"))


def prepare_and_be_killed(archives, data_dir):
    """Prepares CIFAR-10 up to the seventh example."""
    whole = tfds.builder_cls("cifar10")._generate_examples

    def killed_half_way(self, *arguments):
        for i, example in enumerate(whole(self, *arguments)):
            if i == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            yield example

    tfds.builder_cls("cifar10")._generate_examples = killed_half_way
    source_of("cifar10", archives=archives, data_dir=data_dir)


@pytest.mark.slow
def test_kills_while_preparing_leave_nothing_after_the_next_command(archives, tmp_path):
    for _ in range(3):
        child = Child(tmp_path / "said", prepare_and_be_killed, archives, tmp_path / "killed")
        child.ended()
        assert child.exit_code == -signal.SIGKILL, child.said()
        assert len(list((tmp_path / "killed").iterdir())) == 1  # What it left; the one before it is gone.
    for name in ("killed", "whole"):
        assert source_of("cifar10", archives=archives, data_dir=tmp_path / name).count == 15
    assert paths_below(tmp_path / "killed") == paths_below(tmp_path / "whole")


def test_a_tar_damaged_in_the_middle_is_not_taken_for_a_shorter_one(archives, tmp_path):
    for name in ("train_64x64.tar", "valid_64x64.tar"):
        content = bytearray((archives / name).read_bytes())
        content[content.index(name[:5].encode() + b"_64x64/", 600)] ^= 1
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"train_64x64.tar is damaged .*\(bad checksum at byte"):
        source_of("downsampled_imagenet/64x64", archives=tmp_path, data_dir=tmp_path / "prepared")


def test_a_member_that_leads_out_of_the_archive_is_not_extracted(archives, tmp_path):
    members = {"../../../../escaped.txt": b"out"}
    write_tar(tmp_path / "cifar-10-binary.tar.gz", members, "w:gz")
    with pytest.raises(UserError, match=r"cifar10/3.0.2 could not be prepared"):
        source_of("cifar10", archives=tmp_path, data_dir=tmp_path / "a" / "b" / "prepared")
    assert not list(tmp_path.parent.rglob("escaped.txt"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(404, "answers 404"), (410, "answers 410"), (ConnectionError, r"does not answer \(ConnectionError\)")],
)
def test_hosts_that_do_not_have_the_file_are_asked_once(tmp_path, monkeypatch, answer, reason):
    asked = []

    def head(url, **_):
        asked.append(url)
        if isinstance(answer, int):
            return type("Response", (), {"status_code": answer})
        raise tfds_preparing.requests.ConnectionError("offline")

    monkeypatch.setattr(tfds_preparing.requests, "head", head)
    with pytest.raises(UserError, match=reason):
        source_of("cifar10", data_dir=tmp_path)
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]


SLICES = ("train[:90%]", "train[90%:]", "test+train[:2]", "train[-4:]", "train[:33%]+train[66%:]", "all", "test[1:]")


@pytest.mark.parametrize("spec", SLICES)
def test_slices_mean_the_same_in_tfds_and_in_a_folder(archives, data_dir, tmp_path, spec):
    splits = {
        split: list(source_of("cifar10", split, archives=archives, data_dir=data_dir)) for split in ("train", "test")
    }
    for split, images in splits.items():
        write_folder(tmp_path, {f"{split}/{i:05d}.png": encoded(pixels) for i, (_, pixels, _) in enumerate(images)})
    ours, theirs = source_of(f"folder:{tmp_path}", spec), source_of("cifar10", spec, data_dir=data_dir)
    assert ours.count == theirs.count
    expected = [pixels.tobytes() for _, pixels, _ in theirs]
    found = [pixels.tobytes() for _, pixels, _ in ours]
    assert (sorted(found) if spec == "all" else found) == (sorted(expected) if spec == "all" else expected)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_records_are_named_with_the_way_out(archives, tmp_path, damage):
    source_of("cifar10", archives=archives, data_dir=tmp_path)
    (record,) = tmp_path.rglob("*train.tfrecord*")
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 4
    {
        "flip": lambda: record.write_bytes(content),
        "cut": lambda: record.write_bytes(content[:-100]),
        "remove": record.unlink,
    }[damage]()
    for skip_broken in (False, True):
        with pytest.raises(UserError, match=r"cifar10: the files in .*3.0.2 cannot be read .*remove that directory"):
            list(source_of("cifar10", data_dir=tmp_path, skip_broken=skip_broken))


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_description_of_a_dataset_is_no_traceback(archives, tmp_path, name):
    source_of("cifar10", archives=archives, data_dir=tmp_path)
    (path,) = tmp_path.rglob(name)
    content = path.read_bytes()
    for damaged in (b"", b"{", content[: len(content) // 2], b"[1]", content.replace(b'"', b"'")):
        path.write_bytes(damaged)
        try:
            assert len(list(source_of("cifar10", data_dir=tmp_path, archives=archives))) == 15
        except UserError as error:
            assert "cifar10" in str(error)


def test_places_with_square_brackets(archives, tmp_path):
    place = tmp_path / "[lr=0.1]" / "a*b"
    place.parent.mkdir()
    shutil.copytree(archives, place / "archives")
    source = source_of("cifar10", "test", archives=place / "archives", data_dir=place / "prepared")
    assert numbers_of(source, 32, 32) == {1: 1, 2: 2}
