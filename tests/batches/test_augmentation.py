import numpy as np
import pytest
from PIL import Image

from tfpipeline.batches import counter_random
from tfpipeline.batches.augmentation import (
    GRAY,
    alternate,
    color,
    crop,
    cutout,
    flip,
    parse_augmentation,
    rotate,
    translate,
)
from tfpipeline.system.errors import FlagError

SPECS = [
    "flip",
    "alternate",
    "translate:3",
    "crop:60",
    "rotate:30",
    "cutout:3",
    "color:40",
    "alternate,rotate:9,color:10,cutout:2",
]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 7, 9, 3), np.uint8)


@pytest.mark.parametrize("spec", SPECS)
def test_a_sample_depends_on_its_own_counter_alone(images, spec):
    change = parse_augmentation(spec, 40)
    counters = np.arange(40) * 17 + 5
    together = change(images, 4, counters)
    chosen = [31, 2, 19]
    assert np.array_equal(change(images[chosen], 4, counters[chosen]), together[chosen])


@pytest.mark.parametrize("spec", SPECS)
def test_seeds_and_counters_matter_and_the_input_stays(images, spec):
    change = parse_augmentation(spec, 40)
    before = images.copy()
    first = change(images, 0, np.arange(40))
    assert not np.array_equal(first, change(images, 1, np.arange(40)))
    assert not np.array_equal(first, change(images, 0, np.arange(40, 80)))
    assert np.array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape


def test_flip_mirrors_half_of_the_samples(images):
    many = np.repeat(images[:1], 4000, axis=0)
    flipped = flip()(many, 0, np.arange(4000))
    mirrored = [np.array_equal(sample, images[0, :, ::-1]) for sample in flipped]
    same = [np.array_equal(sample, images[0]) for sample in flipped]
    assert sum(mirrored) + sum(same) == 4000
    assert abs(sum(mirrored) - 2000) < 4 * np.sqrt(4000 / 4)  # Four standard deviations.


def test_translate_shifts_by_every_amount_and_reflects_at_the_edge(images):
    many = np.repeat(images[:1], 2000, axis=0)
    shifted = translate(2)(many, 0, np.arange(2000))
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    possible = {padded[top : top + 7, left : left + 9].tobytes() for top in range(5) for left in range(5)}
    assert {sample.tobytes() for sample in shifted} == possible


def test_alternate_shows_every_image_both_ways_in_two_epochs(images):
    change = alternate(40)
    first, second, third = (change(images, 0, epoch * 40 + np.arange(40)) for epoch in range(3))
    assert np.array_equal(first, third) and np.array_equal(first, second[:, :, ::-1])
    kept = sum(np.array_equal(one, image) for one, image in zip(first, images, strict=True))
    assert abs(kept - 20) < 4 * np.sqrt(40 / 4)


def test_cutout_grays_one_square_that_may_reach_over_the_edge():
    white = np.full((500, 7, 9, 3), 255, np.uint8)
    areas = set()
    for sample in cutout(3)(white, 0, np.arange(500)):
        rows, columns = np.nonzero((sample == GRAY).all(-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width and height <= 3 and width <= 3
        assert (sample != 255).any(-1).sum() == len(rows)
        areas.add((int(height), int(width)))
    assert areas == {(height, width) for height in (2, 3) for width in (2, 3)}


def test_color_of_gray_images_changes_their_brightness_alone():
    gray = np.full((2000, 2, 2, 3), 100, np.uint8)
    changed = color(30)(gray, 0, np.arange(2000))
    assert (changed == changed[:, :1, :1, :1]).all()
    assert (changed.min(), changed.max()) == (70, 130)


def test_color_follows_its_equation(images):
    factors = {
        name: 1 + (2 * counter_random.uniform(5, np.arange(40), name) - 1) * 0.4
        for name in ("brightness", "contrast", "saturation")
    }
    changed = color(40)(images, 5, np.arange(40))
    for number, image in enumerate(images.astype(float)):
        a, b, c = (factors[name][number] for name in ("brightness", "contrast", "saturation"))
        luma = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
        expected = a * (luma.mean() + b * (c * image + (1 - c) * luma[..., None] - luma.mean()))
        assert np.abs(np.clip(expected, 0, 255) - changed[number]).max() < 0.51


def test_rotate_turns_as_pillow_does():
    y, x = np.mgrid[:32, :32]
    smooth = (127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 4)).astype(np.uint8)
    images = np.repeat(np.stack([smooth] * 3, -1)[None], 6, axis=0)
    turned = rotate(30)(images, 3, np.arange(6))
    angles = 30 * (2 * counter_random.uniform(3, np.arange(6), "rotate") - 1)
    for image, angle in zip(turned, angles, strict=True):
        expected = Image.fromarray(smooth).rotate(angle, Image.Resampling.BILINEAR)
        inside = np.hypot(x - 15.5, y - 15.5) < 14
        difference = np.abs(image[..., 0].astype(int) - np.asarray(expected).astype(int))
        assert difference[inside].max() <= 2


def test_crop_enlarges_a_window_inside_the_image():
    ramp = np.broadcast_to(5 * np.arange(40, dtype=np.uint8)[:, None, None], (1, 40, 40, 3))
    cropped = crop(50)(np.repeat(ramp, 300, axis=0), 0, np.arange(300))[:, :, 7, 0].astype(float)
    slopes = (cropped[:, 30] - cropped[:, 10]) / 20 / 5
    assert slopes.min() == pytest.approx(0.5, abs=0.02) and slopes.max() == pytest.approx(1, abs=0.02)
    tops = cropped[:, 10] / 5 - 10 * slopes
    assert tops.min() > -0.6 and (tops + 39 * slopes).max() < 39.6
    assert tops.max() > 15


def test_draws_are_uniform_and_streams_independent():
    counters = np.arange(20_000)
    first, second = (counter_random.uniform(3, counters, stream) for stream in ("first", "second"))
    distance = np.abs(np.sort(first) - (counters + 0.5) / len(counters)).max()
    assert distance < 1.95 / np.sqrt(len(counters))  # Kolmogorov and Smirnov's, at 0.1 %.
    for other in (second, counter_random.uniform(4, counters, "first"), np.roll(first, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(len(counters))


@pytest.mark.parametrize(
    "spec",
    ["twirl", "translate", "translate:x", "translate:0", "flip:1", "rotate:31", "crop:100", "cutout:0", "color:100"],
)
def test_a_wrong_spec_is_refused_by_name(spec):
    with pytest.raises(FlagError, match=f"--augment {spec}: .*"):
        parse_augmentation(spec, 40)
