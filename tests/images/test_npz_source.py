"""The public .npz files of ImageNet 64x64: read row by row, classes in the usual order, never unpickled."""

import io
import pickle
import random
import zipfile

import numpy as np
import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import pixels_of
from tfpipeline.images.npz_source import resized_order
from tfpipeline.system.errors import FlagError, UserError


def rows(*numbers):
    return np.stack([pixels_of(number, 8, 8).transpose(2, 0, 1).ravel() for number in numbers])


@pytest.fixture
def folder(tmp_path):
    for i in (1, 2, 10):
        np.savez(
            tmp_path / f"train_data_batch_{i}.npz", data=rows(i, i + 1), labels=np.array([i, 1000]), mean=np.zeros(192)
        )
    np.savez_compressed(tmp_path / "val_data.npz", data=rows(50), labels=[3])
    return tmp_path


def test_batches_come_in_the_order_of_their_numbers(folder):
    source = source_of(f"npz:{folder}")
    assert source.count == 6
    images = list(source)
    assert [name for name, _, _ in images] == [
        f"train_data_batch_{i}-{row:07d}" for i in (1, 2, 10) for row in range(2)
    ]  # fmt: skip
    for (_, pixels, _), number in zip(images, (1, 2, 2, 3, 10, 11), strict=True):
        np.testing.assert_array_equal(pixels, pixels_of(number, 8, 8))
        assert pixels.flags.c_contiguous


def test_labels_are_mapped_to_the_order_of_sorted_wordnet_ids(folder):
    source = source_of(f"npz:{folder}")
    wnids = [wnid for wnid, _ in source.classes]
    assert wnids == sorted(resized_order())
    assert [wnids[truth] for _, _, truth in source] == [resized_order()[i - 1] for i in (1, 1000, 2, 1000, 10, 1000)]
    assert resized_order()[0] == "n02119789"


@pytest.mark.parametrize("split", ["valid", "val", "validation"])
def test_the_validation_file_is_a_split(folder, split):
    ((name, pixels, _),) = source_of(f"npz:{folder}", split, size=4)
    assert (name, pixels.shape) == ("val_data-0000000", (4, 4, 3))


def test_one_file_and_a_limit(folder):
    source = source_of(f"npz:{folder / 'train_data_batch_2.npz'}", limit=1)
    assert source.count == 1
    assert [name for name, _, _ in source] == ["train_data_batch_2-0000000"]


def test_unknown_splits_and_empty_folders(folder, tmp_path_factory):
    with pytest.raises(FlagError, match="no split 'test'; give --split train or valid"):
        source_of(f"npz:{folder}", "test")
    with pytest.raises(UserError, match=r"holds no train_data\*.npz for split train"):
        source_of(f"npz:{tmp_path_factory.mktemp('empty')}")


class Malicious:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("array", ["data", "labels"])
def test_pickles_are_refused_and_not_run(tmp_path, array):
    good = {"data": rows(1), "labels": np.array([1])}
    np.savez(tmp_path / "x.npz", **good | {array: np.array([Malicious(tmp_path / "ran")], object)})
    with pytest.raises(UserError, match=f"{array} holds pickled objects, which are never read"):
        list(source_of(f"npz:{tmp_path / 'x.npz'}"))
    assert not (tmp_path / "ran").exists()


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def header_that_lies():
    """data.npy states a terabyte of labels, and brings eight bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = io.BytesIO()
        np.lib.format.write_array_header_1_0(member, {"descr": "<i8", "fortran_order": False, "shape": (1 << 37,)})
        archive.writestr("labels.npy", member.getvalue() + bytes(8))
    return file.getvalue()


WHOLE = saved(data=rows(1, 2), labels=np.array([1, 2]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or no .npz file"),
        (b"not a zip", "is damaged or no .npz file"),
        (WHOLE[:-30], "is damaged or no .npz file"),
        (WHOLE.replace(rows(2).tobytes()[50:90], bytes(40)), "is damaged or no .npz file .*CRC"),
        (pickle.dumps([1]), "is damaged or no .npz file"),
        (saved(labels=np.array([1])), "has no array 'data'"),
        (saved(data=rows(1)), "has no array 'labels'"),
        (
            saved(data=rows(1, 2), labels=np.array([1])),
            r"data is uint8 \(2, 192\), not uint8 \(1, 3 x height x width\)",
        ),
        (saved(data=rows(1)[:, :190], labels=np.array([1])), "data is uint8"),
        (saved(data=rows(1).astype(float), labels=np.array([1])), "data is float64"),
        (saved(data=np.asfortranarray(rows(1, 2)), labels=np.array([1, 2])), "data is in Fortran order"),
        (saved(data=rows(1), labels=np.array([0])), "labels run from 0 to 0, not within 1 to 1000"),
        (saved(data=rows(1), labels=np.array([1001])), "labels run from 1001 to 1001"),
        (saved(data=rows(1), labels=np.array(["x"])), "labels is <U1"),
        (saved(data=rows(1), labels=np.array([[1]])), "not a row of integers"),
        (header_that_lies(), "labels has 1 numbers of 137438953472"),
    ],
)
def test_damaged_or_other_files_are_named(tmp_path, content, message):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        list(source_of(f"npz:{tmp_path / 'x.npz'}"))
    assert "x.npz" in str(refusal.value)


def test_a_damaged_file_is_left_out_as_a_whole_and_counted(folder):
    damaged = folder / "train_data_batch_2.npz"
    content = damaged.read_bytes()
    damaged.write_bytes(content.replace(rows(3).tobytes()[50:90], bytes(40)))
    assert damaged.read_bytes() != content
    with pytest.raises(UserError, match=r"train_data_batch_2.npz is damaged or no .npz file .*CRC"):
        list(source_of(f"npz:{folder}"))
    source = source_of(f"npz:{folder}", skip_broken=True)
    assert [name for name, _, _ in source] == [f"train_data_batch_{i}-{row:07d}" for i in (1, 10) for row in range(2)]
    assert source.skipped == ["train_data_batch_2-0000000", "train_data_batch_2-0000001"]
    assert source.count == 6
    (reason,) = {reason for _, reason in source.left_out}
    assert reason.startswith(f"lies in a damaged file: {damaged} is damaged")


def test_a_file_of_which_nobody_knows_how_many_images_it_holds_counts_as_one(folder):
    (folder / "train_data_batch_1.npz").write_bytes(b"no npz")
    source = source_of(f"npz:{folder}", skip_broken=True)
    assert len(list(source)) == 4
    assert source.skipped == ["train_data_batch_1-0000000"]


@pytest.mark.parametrize(
    ("spec", "numbers"), [("train[1:4]", [2, 2, 3]), ("train[-1:]", [11]), ("train[:1]+valid", [1, 50])]
)
def test_slices_reach_over_files(folder, spec, numbers):
    images = [pixels for _, pixels, _ in source_of(f"npz:{folder}", spec)]
    np.testing.assert_array_equal(images, [pixels_of(number, 8, 8) for number in numbers])


def test_the_checksum_of_a_file_counts_for_a_slice_of_it_as_well(folder):
    damaged = folder / "val_data.npz"
    np.savez(damaged, data=rows(*range(50)), labels=np.full(50, 3))
    content = damaged.read_bytes()
    damaged.write_bytes(content.replace(rows(49).tobytes()[:9], bytes(9)))
    with pytest.raises(UserError, match=r"val_data.npz is damaged"):
        list(source_of(f"npz:{folder}", "valid[:10]"))


def test_rows_beyond_those_stated_are_verified_too(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array, more in (("labels", np.array([1]), b"more"), ("data", rows(1), b"beyond")):
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue() + more)
    whole = file.getvalue()
    for word in (b"more", b"beyond"):
        (tmp_path / "x.npz").write_bytes(whole.replace(word, word.upper()))
        with pytest.raises(UserError, match="CRC"):
            list(source_of(f"npz:{tmp_path / 'x.npz'}"))


def test_names_of_files_become_one_line(tmp_path):
    np.savez(tmp_path / "a\nb.npz", data=rows(1), labels=np.array([1]))
    ((name, _, _),) = source_of(f"npz:{tmp_path}/a\nb.npz")
    assert name == "a\\nb-0000000"


def test_damage_of_all_kinds_ends_in_one_line_that_names_the_file(tmp_path):
    rng, path = random.Random(0), tmp_path / "x.npz"
    for _ in range(300):
        damaged = bytearray(WHOLE)
        for position in rng.sample(range(len(WHOLE)), rng.choice([1, 1, 2, 9])):
            damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged[: rng.choice([len(WHOLE), len(WHOLE), rng.randrange(len(WHOLE))])])
        try:
            images = [pixels for _, pixels, _ in source_of(f"npz:{path}")]
        except UserError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
        else:
            np.testing.assert_array_equal(images, [pixels_of(1, 8, 8), pixels_of(2, 8, 8)])
        left_out = source_of(f"npz:{path}", skip_broken=True)
        assert len(list(left_out)) + len(left_out.skipped) == left_out.count
