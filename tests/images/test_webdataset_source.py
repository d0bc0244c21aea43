"""Tars in WebDataset's layout: an image and its class by one key, tars in the order of their numbers."""

import json

import numpy as np
import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_tar
from tfpipeline.images import splits_of
from tfpipeline.images.flags import ImageFlags
from tfpipeline.system import UserError


def image(number):
    return encoded(pixels_of(number))


@pytest.fixture
def data(tmp_path):
    """As CLIP_benchmark publishes data sets: train/0.tar ..., classnames.txt."""
    root = tmp_path / "pets"
    (root / "train").mkdir(parents=True)
    (root / "test").mkdir()
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "train" / "nshards.txt").write_text("11")
    for shard in range(11):
        files = {f"s{shard:07d}.png": image(shard), f"s{shard:07d}.cls": str(shard % 2).encode()}
        write_tar(root / "train" / f"{shard}.tar", files)
    write_tar(root / "test" / "0.tar.gz", {"s0.cls": b"1", "s0.png": image(20)}, "w:gz")
    return root


def test_samples_come_in_the_order_of_the_tars_numbers(data):
    source = source_of(f"webdataset:{data}")
    assert source.count == 11
    assert source.classes == (("cat", "cat"), ("dog", "dog"))
    for number, (name, pixels, truth) in enumerate(source):
        assert (name, truth) == (f"train/{number}-0000000", number % 2)
        np.testing.assert_array_equal(pixels, pixels_of(number))


def test_splits_and_packed_tars(data):
    assert splits_of(ImageFlags(images=f"webdataset:{data}")) == ("test", "train")
    ((name, pixels, truth),) = source_of(f"webdataset:{data}", "test")
    assert (name, truth) == ("test/0-0000000", 1)
    np.testing.assert_array_equal(pixels, pixels_of(20))


def test_names_of_tars_tell_splits_and_slices_go_across_them(tmp_path):
    for shard in range(2):
        files = {f"{shard}{i}.png": image(10 * shard + i) for i in range(3)}
        write_tar(tmp_path / f"pets-train-{shard:06d}.tar", files)
    write_tar(tmp_path / "pets-val-000000.tar", {"0.png": image(30)})
    found = [pixels for _, pixels, _ in source_of(f"webdataset:{tmp_path}", "train[2:4]+val")]
    np.testing.assert_array_equal(found, [pixels_of(number) for number in (2, 10, 30)])


@pytest.mark.parametrize(
    ("record", "truth"),
    [({"label": "dog"}, 0), ({"label": 1}, 1), ({"cls": 1}, 1), ({"caption": "a dog"}, None), (["dog"], None)],
)
def test_the_class_stands_in_a_json_file(tmp_path, record, truth):
    write_tar(tmp_path / "x.tar", {"a/1.png": image(1), "a/1.json": json.dumps(record).encode()})
    ((_, _, found),) = source_of(f"webdataset:{tmp_path / 'x.tar'}")
    assert found == truth


def test_a_file_of_its_own_goes_before_the_record_and_a_mask_is_no_image(tmp_path):
    files = {
        "b.cls": b"2\n",
        "b.json": b'{"label": 0}',
        "b.mask.png": image(9),
        "b.png": image(1),
        "b-2.png": image(2),
        "b-2.cls": b"0",
        "b-2.txt": b"a caption",
    }
    write_tar(tmp_path / "x.tar", files)
    source = source_of(f"webdataset:{tmp_path / 'x.tar'}")
    images = list(source)
    assert [truth for _, _, truth in images] == [0, 2]
    np.testing.assert_array_equal([pixels for _, pixels, _ in images], [pixels_of(2), pixels_of(1)])
    assert source.classes == tuple((str(i), str(i)) for i in range(3))


def test_samples_without_an_image_are_said(tmp_path):
    write_tar(tmp_path / "x.tar", {"a.png": image(1), "a.cls": b"0", "b.cls": b"1", "c.json": b"{}"})
    source = source_of(f"webdataset:{tmp_path / 'x.tar'}")
    assert source.count == 1
    assert "2 samples of x.tar have no image and are left out" in " ".join(source.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": image(1), "a.json": b"{not json"}, "a.json holds no class"),
        ({"a.png": image(1), "a.cls": b"\xff\xfe"}, "a.cls holds no class"),
        ({"a.png": image(1), "a.cls": b"1", "b.png": image(2), "b.cls": b"dog"}, "has numbers and texts for labels"),
        ({"a.png": b"no image", "a.cls": b"0"}, "image x-0000000 is none of PNG"),
        ({"../a.png": image(1)}, "image x-0000000 has a name that leads out of the archive"),
    ],
)
def test_damage_is_named(tmp_path, files, message):
    write_tar(tmp_path / "x.tar", files)
    with pytest.raises(UserError, match=message):
        list(source_of(f"webdataset:{tmp_path / 'x.tar'}"))


def test_half_a_download_is_refused_or_left_out(data):
    path = data / "train" / "3.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"train/3\.tar is damaged or is no tar or zip archive"):
        list(source_of(f"webdataset:{data}"))
    source = source_of(f"webdataset:{data}", skip_broken=True)
    assert len(list(source)) == 10
    assert source.skipped == ["train/3-0000000"]


def test_names_that_the_classes_lack_are_refused(data):
    (data / "classnames.txt").write_text("cat\n")
    with pytest.raises(UserError, match="has the label 1, which is none of the 1 classes"):
        list(source_of(f"webdataset:{data}"))


def test_folders_without_tars_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no file \*\.tar or \*\.tar\.gz or \*\.tgz; check the path"):
        source_of(f"webdataset:{tmp_path}")
