"""The teacher's views, replayed: the student sees what the teacher answered, and learns that answer."""

import numpy as np
import pytest
import tensorflow as tf

from tfpipeline.batches import replay
from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.batches.mixing import parse_mixing
from tfpipeline.images.views import parse_view
from tfpipeline.system.errors import FlagError

COUNT = 30
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 7, 9, 3), np.uint8)
VIEWS = ("identity", "flip", "crop:1:3:5", "crop:0:2:6:flip")
PARSED = tuple(map(parse_view, VIEWS))


@pytest.mark.parametrize("view", [*VIEWS, "crop:0:0:7", "crop:3:4:1"])
def test_the_student_is_shown_what_the_teacher_looked_at(view):
    seen = tf.cast(parse_view(view).cut(tf.constant(IMAGES)), tf.float32)
    expected = tf.image.resize(seen, (7, 9), "bilinear").numpy()
    shown = replay.show_view(IMAGES, parse_view(view))
    assert (shown.dtype, shown.shape) == (np.uint8, IMAGES.shape)
    assert np.abs(shown - expected).max() <= 0.5 + 1e-4


def test_each_sample_shows_the_view_that_is_drawn_for_its_counter():
    index = np.arange(COUNT)
    shown, rows = TrainingBatches(IMAGES, {}, 1, 3, views=PARSED).samples(index, 4)
    drawn = replay.draw_views(3, index + 4 * COUNT, len(VIEWS))
    assert np.array_equal(rows, index * len(VIEWS) + drawn)
    for image, sample, view in zip(IMAGES, shown, drawn, strict=True):
        assert np.array_equal(sample, replay.show_view(image[None], PARSED[view])[0])


def test_all_views_are_drawn_alike():
    drawn = np.bincount(replay.draw_views(0, np.arange(8000), 4), minlength=4)
    assert np.abs(drawn - 2000).max() < 4 * np.sqrt(8000 / 4 * 3 / 4)  # Four standard deviations.


@pytest.mark.parametrize("mix", [None, parse_mixing("mixup:0.5")])
def test_the_answer_of_a_sample_is_that_to_its_view_and_resuming_anywhere_repeats_it(mix):
    answers = np.arange(COUNT * len(VIEWS), dtype=np.int32)  # The answer to view v of image i is 4 i + v.

    def training(first_step, steps):
        batches = TrainingBatches(IMAGES, {"answer": answers}, 7, 3, mix=mix, views=PARSED)
        return list(batches.from_step(first_step).take(steps).as_numpy_iterator())

    whole = training(0, 9)
    for step in range(9):
        for ours, theirs in zip(training(step, 9 - step), whole[step:], strict=True):
            assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    drawn = set()
    for batch in whole:
        image, view = np.divmod(batch["answer"], len(VIEWS))
        assert np.array_equal(image, batch["index"])
        drawn |= set(view.tolist())
        shown = np.concatenate(
            [replay.show_view(IMAGES[i : i + 1], PARSED[v]) for i, v in zip(image, view, strict=True)]
        )
        if mix is None:
            assert np.array_equal(batch["images"], shown)
        else:
            of_answer = dict(zip(batch["answer"].tolist(), shown.astype(float), strict=True))
            partners = np.stack([of_answer[answer] for answer in batch["partner_answer"].tolist()])
            own = batch["own_weight"][:, None, None, None]
            assert np.abs(own * shown + (1 - own) * partners - batch["images"]).max() <= 0.5 + 1e-3
    assert drawn == set(range(len(VIEWS)))


@pytest.mark.parametrize(
    ("text", "known", "problem"),
    [
        ("replay", (), "--augment replay: there are no answers to views"),
        ("replay", ("identity+flip",), "hold only the mean of the answers to identity and flip; label with --keep-v"),
        ("flip,replay", VIEWS, "--augment replay: the teacher's views come first and without a number"),
        ("replay:3", VIEWS, "--augment replay:3: the teacher's views come first and without a number"),
    ],
)
def test_what_cannot_be_replayed_is_refused(text, known, problem):
    with pytest.raises(FlagError, match=problem):
        replay.views_to_replay(known)
        parse_augmentation(text, COUNT)
