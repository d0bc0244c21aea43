"""Images held out by their names: stable, apart from the others, and read where they are."""

import random
import unicodedata

import numpy as np
import pytest

from tests.support.images import store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tfpipeline.images import Rows, hold_out, hold_out_mask, overlap, parse_share, select, spread_evenly
from tfpipeline.images.store import open_store
from tfpipeline.system import FlagError, UserError

NAMES = [f"n{i % 17:08d}/{i:07d}.png" for i in range(5000)]


def folder_of(place, numbers):
    """A folder of images by name -> number of their pixels."""
    return f"folder:{write_folder(place, {name: encoded(pixels_of(number)) for name, number in numbers.items()})}"


@pytest.fixture
def store(tmp_path):
    numbers = {f"{'ab'[i % 2]}/{i:03d}.png": i for i in range(60)}
    return store_of(folder_of(tmp_path / "images", numbers), cache=tmp_path / "cache")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.93])
def test_the_share_is_held_out_evenly_over_all_folders(share):
    mask = hold_out_mask(NAMES, share, seed=0)
    assert mask.dtype == bool
    assert abs(mask.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(NAMES))  # Four deviations of a fair draw.
    for folder in range(17):
        part = mask[folder::17]
        assert abs(part.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(part))


def test_an_image_stays_on_its_side_when_others_come_and_go_in_any_order():
    mask = dict(zip(NAMES, hold_out_mask(NAMES, 0.1, seed=3), strict=True))
    fewer = random.Random(0).sample(NAMES, 900)
    for name, held_out in zip(fewer, hold_out_mask(fewer, 0.1, seed=3), strict=True):
        assert held_out == mask[name]


def test_a_larger_share_holds_out_those_of_the_smaller_one_and_more():
    small, large = (hold_out_mask(NAMES, share, seed=0) for share in (0.1, 0.3))
    assert (large | ~small).all()


def test_another_seed_holds_out_others():
    first, second = (hold_out_mask(NAMES, 0.5, seed=seed) for seed in (0, 1))
    assert abs((first == second).mean() - 0.5) < 0.03


def test_a_name_counts_the_same_however_its_accents_are_composed():
    names = [f"café {i}.png" for i in range(300)]
    masks = [hold_out_mask([unicodedata.normalize(form, n) for n in names], 0.5, 0) for form in ("NFC", "NFD")]
    np.testing.assert_array_equal(*masks)


def test_which_images_are_held_out_never_changes():
    """A training that goes on must hold out the same images in every version."""
    assert np.flatnonzero(hold_out_mask(NAMES[:60], 0.1, seed=0)).tolist() == [9, 19, 21, 24, 26, 28, 40, 43, 47, 57]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_of_few_images_one_at_least_is_on_each_side(count, share):
    mask = hold_out_mask(NAMES[:count], share, seed=0)
    assert 0 < mask.sum() < count


def test_a_store_is_divided_into_two_that_know_where_they_stand(store):
    training, held_out = hold_out(store, 0.25, seed=0)
    mask = hold_out_mask(store.names, 0.25, seed=0)
    for part, rows in ((training, np.flatnonzero(~mask)), (held_out, np.flatnonzero(mask))):
        np.testing.assert_array_equal(part.rows, rows)
        np.testing.assert_array_equal(part.images[:], store.images[rows])
        np.testing.assert_array_equal(part.truth, store.truth[rows])
        assert part.names == [store.names[i] for i in rows]
        assert len(part) == len(rows)
        assert part.classes == store.classes
        assert part.description == store.description
    assert len({store.fingerprint, training.fingerprint, held_out.fingerprint}) == 3
    assert overlap(training, held_out) == 0


def test_images_with_the_same_pixels_go_together(tmp_path):
    numbers = {f"{i:03d}.png": i % 40 for i in range(120)}
    store = store_of(folder_of(tmp_path / "images", numbers), cache=tmp_path / "cache")
    training, held_out = hold_out(store, 0.1, seed=0)
    assert overlap(training, held_out) == 0
    assert len(training) + len(held_out) == 120
    named = {numbers[name] for name, held in zip(store.names, hold_out_mask(store.names, 0.1, 0), strict=True) if held}
    assert {numbers[name] for name in held_out.names} == named


def test_images_that_are_all_alike_cannot_be_divided(tmp_path):
    store = store_of(folder_of(tmp_path / "images", {"1.png": 5, "2.png": 5}), cache=tmp_path / "cache")
    with pytest.raises(UserError, match=r"--hold-out 0.1 of 2 images leaves one side empty"):
        hold_out(store, 0.1, seed=0)


def test_overlap_counts_images_with_the_very_pixels_of_another(tmp_path):
    def store_with(name, numbers, **flags):
        spec = folder_of(tmp_path / name, {f"{i}.png": number for i, number in enumerate(numbers)})
        return store_of(spec, cache=tmp_path / "cache", **flags)

    one, other = store_with("one", range(10)), store_with("other", [3, 11, 3, 7, 12])
    assert overlap(one, other) == 3  # 3 twice, and 7
    assert overlap(other, one) == 2
    assert overlap(one, store_with("third", range(20, 25))) == 0
    assert overlap(one, store_with("one", range(10), size=4)) == 0
    assert overlap(one, one) == 10


def test_digests_are_those_of_the_store_or_computed_where_an_old_store_has_none(tmp_path, store):
    kept = store.digests
    assert kept.dtype == np.uint64
    for name in ("digests.npy", "notes.txt", "store.sha256"):
        (store.directory / name).unlink()
    np.testing.assert_array_equal(open_store(store.directory).digests, kept)
    rows = np.array([5, 2, 40])
    np.testing.assert_array_equal(select(open_store(store.directory), rows).digests, kept[rows])
    np.testing.assert_array_equal(select(store, rows).digests, kept[rows])


def test_a_selection_of_a_selection_stands_in_the_whole_store(store):
    inner = select(select(store, np.array([9, 4, 30, 31])), np.array([3, 1]))
    assert inner.rows.tolist() == [31, 4]
    np.testing.assert_array_equal(inner.images[1], store.images[4])
    assert inner.names == [store.names[31], store.names[4]]
    assert inner.images.array is store.images


@pytest.mark.parametrize(
    ("count", "at_most", "expected"),
    [(10, 5, [0, 2, 4, 6, 9]), (3, 9, [0, 1, 2]), (7, 3, [0, 3, 6]), (7, 6, [0, 1, 2, 3, 4, 6]), (5, 1, [0])],
)
def test_rows_are_spread_evenly_from_the_first_to_the_last(count, at_most, expected):
    assert spread_evenly(count, at_most).tolist() == expected


def test_rows_are_read_like_those_of_an_array(store):
    indices = np.array([7, 0, 59, 21, 22])
    rows, expected = Rows(store.images, indices), store.images[indices]
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == (expected.shape, expected.dtype, 4, 5)
    for key in (
        *(0, -1, np.int64(3), slice(1, 4), slice(None, None, -2), [2, 0], np.array([4, 4, 1]), np.arange(5) % 2 == 0),
        *((slice(1, 3), slice(0, 2)), (2, 1), (np.array([0, 3]), slice(None), slice(None, None, -1)), ...),
    ):
        np.testing.assert_array_equal(rows[key], expected[key])
    np.testing.assert_array_equal(np.asarray(rows), expected)
    assert [image.tobytes() for image in rows] == [image.tobytes() for image in expected]
    with pytest.raises(IndexError):
        rows[5]
    with pytest.raises(ValueError, match="lie on disk"):
        np.array(rows, copy=False)


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.1", 0.1), (".25", 0.25), (" 2.5% ", 0.025), ("99.9%", 0.999)]
)
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("text", ["", "0", "0%", "100%", "1", "10", "-5%", "ten", "10 percent", "nan", "1e-3", "5%%"])
def test_what_is_no_share_is_a_wrong_flag(text):
    with pytest.raises(FlagError, match=r"--hold-out .*is no share of the images; give one like 10%"):
        parse_share(text)
