import numpy as np
import pytest

from tfpipeline import augment
from tfpipeline.errors import FlagError

SPECS = ["flip", "translate:3", "flip,translate:2"]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 7, 9, 3), np.uint8)


@pytest.mark.parametrize("spec", SPECS)
def test_a_sample_depends_on_its_own_counter_alone(images, spec):
    change = augment.parse(spec)
    counters = np.arange(40) * 17 + 5
    together = change(images, 4, counters)
    chosen = [31, 2, 19]
    assert np.array_equal(change(images[chosen], 4, counters[chosen]), together[chosen])


@pytest.mark.parametrize("spec", SPECS)
def test_seeds_and_counters_matter_and_the_input_stays(images, spec):
    change = augment.parse(spec)
    before = images.copy()
    first = change(images, 0, np.arange(40))
    assert not np.array_equal(first, change(images, 1, np.arange(40)))
    assert not np.array_equal(first, change(images, 0, np.arange(40, 80)))
    assert np.array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape


def test_flip_mirrors_half_of_the_samples(images):
    many = np.repeat(images[:1], 4000, axis=0)
    flipped = augment.flip()(many, 0, np.arange(4000))
    mirrored = [np.array_equal(sample, images[0, :, ::-1]) for sample in flipped]
    same = [np.array_equal(sample, images[0]) for sample in flipped]
    assert sum(mirrored) + sum(same) == 4000
    assert abs(sum(mirrored) - 2000) < 4 * np.sqrt(4000 / 4)  # Four standard deviations.


def test_translate_shifts_by_every_amount_and_reflects_at_the_edge(images):
    many = np.repeat(images[:1], 2000, axis=0)
    shifted = augment.translate(2)(many, 0, np.arange(2000))
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    possible = {padded[top : top + 7, left : left + 9].tobytes() for top in range(5) for left in range(5)}
    assert {sample.tobytes() for sample in shifted} == possible


def test_draws_are_uniform_and_streams_independent():
    counters = np.arange(20_000)
    first, second = (augment.uniform(3, counters, stream) for stream in ("first", "second"))
    distance = np.abs(np.sort(first) - (counters + 0.5) / len(counters)).max()
    assert distance < 1.95 / np.sqrt(len(counters))  # Kolmogorov and Smirnov's, at 0.1 %.
    for other in (second, augment.uniform(4, counters, "first"), np.roll(first, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(len(counters))


@pytest.mark.parametrize("spec", ["twirl", "translate", "translate:x", "flip:1"])
def test_a_wrong_spec_is_refused_by_name(spec):
    with pytest.raises(FlagError, match=f"--augment {spec}: .*"):
        augment.parse(spec)
