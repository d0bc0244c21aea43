"""Parquet files in Hugging Face's layout: every row read once and in order, and damage named."""

import tracemalloc

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.support.images import source_of, store_of
from tests.support.images_on_disk import encoded, pixels_of
from tests.support.parquet import write_parquet
from tfpipeline.images import splits_of
from tfpipeline.images.flags import ImageFlags
from tfpipeline.system import FlagError, UserError

NAMES = ["cat", "dog", "eel"]


def files(*numbers):
    return [encoded(pixels_of(number)) for number in numbers]


@pytest.fixture
def data(tmp_path):
    """Two files of a split and one of another, 5 rows in all."""
    root = tmp_path / "pets"
    write_parquet(root / "data/train-00001-of-00002.parquet", files(3), [2], NAMES)
    write_parquet(root / "data/train-00000-of-00002.parquet", files(0, 1, 2), [1, 0, -1], NAMES)
    write_parquet(root / "data/validation-00000-of-00001.parquet", files(4), [0], NAMES)
    return root


def test_rows_come_in_the_order_of_the_files_numbers(data):
    source = source_of(f"parquet:{data}")
    assert source.count == 4
    assert source.classes == tuple((name, name) for name in NAMES)
    images = list(source)
    assert [name for name, _, _ in images] == [
        *(f"data/train-00000-of-00002-{row:07d}" for row in range(3)),
        "data/train-00001-of-00002-0000000",
    ]
    assert [truth for _, _, truth in images] == [1, 0, None, 2]
    for number, (_, pixels, _) in enumerate(images):
        np.testing.assert_array_equal(pixels, pixels_of(number))


@pytest.mark.parametrize(
    ("split", "numbers"),
    [("train[1:4]", [1, 2, 3]), ("train[2:3]", [2]), ("train[3:]", [3]), ("validation+train[:1]", [4, 0])],
)
def test_slices_cross_row_groups_and_files(data, split, numbers):
    found = [pixels for _, pixels, _ in source_of(f"parquet:{data}", split)]
    np.testing.assert_array_equal(found, [pixels_of(number) for number in numbers])


def test_splits_are_told_by_the_names_of_files_and_folders(tmp_path):
    for name in ("default/train/0000", "default/test/0000"):
        write_parquet(tmp_path / "converted" / f"{name}.parquet", files(1))
    write_parquet(tmp_path / "plain" / "0.parquet", files(1))
    write_parquet(tmp_path / "named" / "unsupervised-00000-of-00001.parquet", files(1))
    for folder, splits in (("converted", ("test", "train")), ("plain", ("train",)), ("named", ("unsupervised",))):
        assert splits_of(ImageFlags(images=f"parquet:{tmp_path / folder}")) == splits
    assert {name for name, _, _ in source_of(f"parquet:{tmp_path / 'converted'}", "all")} == {
        "default/test/0000-0000000",
        "default/train/0000-0000000",
    }
    with pytest.raises(FlagError, match="has no split 'valid'; give --split test or train"):
        source_of(f"parquet:{tmp_path / 'converted'}", "valid").count  # noqa: B018


def test_files_without_a_split_beside_those_that_have_one_are_said(data):
    write_parquet(data / "data/more.parquet", files(7))
    source = source_of(f"parquet:{data}")
    assert source.count == 4
    assert "1 files are in no split, the first data/more" in " ".join(source.notes)


def test_two_data_sets_in_one_folder_are_refused(data):
    write_parquet(data / "other/train-00000-of-00001.parquet", files(9))
    with pytest.raises(FlagError, match=r"in 2 folders, which are several data sets; give one .*pets/other"):
        list(source_of(f"parquet:{data}"))


def test_bytes_alone_and_other_names_of_columns(tmp_path):
    table = pyarrow.table({"img": pyarrow.array(files(1, 2), pyarrow.large_binary()), "label": ["b", "a"]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    source = source_of(f"parquet:{tmp_path / 'x.parquet'}")
    assert [truth for _, _, truth in source] == [1, 0]
    assert source.classes == (("a", "a"), ("b", "b"))
    write_parquet(tmp_path / "y.parquet", files(3), column="photo")  # The metadata tell which column it is.
    ((name, pixels, truth),) = source_of(f"parquet:{tmp_path / 'y.parquet'}")
    assert (name, truth) == ("y-0000000", None)
    np.testing.assert_array_equal(pixels, pixels_of(3))


def test_numbers_without_names_are_classes(tmp_path):
    write_parquet(tmp_path / "x.parquet", files(1, 2), [3, 1])
    source = source_of(f"parquet:{tmp_path / 'x.parquet'}")
    assert source.classes == tuple((str(i), str(i)) for i in range(4))
    assert [truth for _, _, truth in source] == [3, 1]


def test_two_classes_of_one_name_stay_two(tmp_path):
    write_parquet(tmp_path / "x.parquet", files(1), [2], ["crane", "dog", "crane"])
    assert source_of(f"parquet:{tmp_path / 'x.parquet'}").classes == (
        ("crane (0)", "crane"),
        ("dog", "dog"),
        ("crane (2)", "crane"),
    )


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 3], NAMES, "has the label 3, which is none of the 3 classes"),
        ([0, 1 << 40], None, "has labels up to 1,099,511,627,776, but only 2 different ones"),
    ],
)
def test_labels_that_name_no_class_are_refused(tmp_path, labels, names, message):
    write_parquet(tmp_path / "x.parquet", files(1, 2), labels, names)
    with pytest.raises(UserError, match=message):
        list(source_of(f"parquet:{tmp_path / 'x.parquet'}"))


def test_files_that_name_other_classes_are_refused(data):
    write_parquet(data / "data/train-00001-of-00002.parquet", files(3), [0], ["dog", "cat"])
    with pytest.raises(UserError, match="name other classes than each other"):
        list(source_of(f"parquet:{data}"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [b"x"], "label": [1]}, "has no column image, only 'picture', 'label'"),
        ({"image": ["x.png"]}, "its column image is string, not bytes of image files"),
        ({"image": [[1, 2]]}, "its column image is list<.*>, not bytes of image files"),
    ],
)
def test_a_wrong_column_is_named(tmp_path, columns, message):
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=message):
        list(source_of(f"parquet:{tmp_path / 'x.parquet'}"))


def test_rows_without_bytes_and_broken_images_are_named(tmp_path):
    write_parquet(tmp_path / "x.parquet", [*files(1), None, b"no image"])
    with pytest.raises(UserError, match=r"2 of 3 images cannot be read: image x-0000001 has no bytes .*x-0000002 is"):
        list(source_of(f"parquet:{tmp_path / 'x.parquet'}"))
    source = source_of(f"parquet:{tmp_path / 'x.parquet'}", skip_broken=True)
    assert [name for name, _, _ in source] == ["x-0000000"]
    assert source.skipped == ["x-0000001", "x-0000002"]


def test_half_a_download_is_refused_or_left_out(data):
    path = data / "data/train-00000-of-00002.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train-00000-of-00002\.parquet is damaged or no Parquet file"):
        list(source_of(f"parquet:{data}"))
    source = source_of(f"parquet:{data}", skip_broken=True)
    assert [name for name, _, _ in source] == ["data/train-00001-of-00002-0000000"]
    assert source.skipped == ["data/train-00000-of-00002-0000000"]
    path.unlink()
    with pytest.raises(UserError, match="lacks 1 of 2 files, the first train-00000-of-00002"):
        list(source_of(f"parquet:{data}"))
    assert len(list(source_of(f"parquet:{data}", skip_broken=True))) == 1


def test_a_damaged_row_group_loses_its_images_alone(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", files(*range(6)))
    content = bytearray(path.read_bytes())
    chunk = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0)
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    content[start : start + 8] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"2 of 6 images cannot be read: image x-0000002 lies in a damaged row group"):
        list(source_of(f"parquet:{path}"))
    source = source_of(f"parquet:{path}", skip_broken=True)
    assert [name for name, _, _ in source] == ["x-0000000", "x-0000001", "x-0000004", "x-0000005"]


@pytest.mark.parametrize("seed", range(2))
def test_flipped_bytes_never_give_other_rows(tmp_path, seed):
    """Images that are read are the right ones, or the damage is told in one line."""
    path = write_parquet(tmp_path / "x.parquet", files(*range(6)), list(range(6)))
    whole, generator = path.read_bytes(), np.random.default_rng(seed)
    expected = [pixels_of(number) for number in range(6)]
    for position in generator.integers(0, len(whole), 40):
        content = bytearray(whole)
        content[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(content)
        try:
            found = {int(name[-7:]): pixels for name, pixels, _ in source_of(f"parquet:{path}", skip_broken=True)}
        except (UserError, FlagError) as error:
            assert "\n" not in str(error)
            continue
        for number, pixels in found.items():
            np.testing.assert_array_equal(pixels, expected[number])


def test_memory_does_not_grow_with_the_number_of_row_groups(tmp_path):
    noise = np.random.default_rng(0)
    peaks = []
    for groups in (2, 20):
        big = [encoded(noise.integers(0, 256, (100, 200, 3), np.uint8)) for _ in range(groups)]
        path = write_parquet(tmp_path / f"{groups}.parquet", big, rows=1)
        pool = pyarrow.default_memory_pool()
        tracemalloc.start()
        held = [pool.bytes_allocated() for _ in source_of(f"parquet:{path}")]
        peaks.append(tracemalloc.get_traced_memory()[1] + max(held))
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_moved_files_are_the_same_images_and_other_ones_are_not(data, tmp_path):
    store = store_of(f"parquet:{data}", cache=tmp_path / "cache")
    (tmp_path / "moved").mkdir()
    moved = data.rename(tmp_path / "moved" / "pets")
    assert store_of(f"parquet:{moved}", cache=tmp_path / "cache").fingerprint == store.fingerprint
    write_parquet(moved / "data/train-00001-of-00002.parquet", files(5), [2], NAMES)
    assert store_of(f"parquet:{moved}", cache=tmp_path / "cache").fingerprint != store.fingerprint
