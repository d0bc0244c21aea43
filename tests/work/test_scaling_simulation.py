"""The simulation of a thousand workers: what must hold in it whatever is drawn."""

import dataclasses
import math
import statistics

import pytest

from benchmarks.scaling_simulation import HOUR, Assumptions, Simulation, figures

SMALL = Assumptions(images=200_000, workers=10, shard_size=512, preemptions_per_hour=10.0)
UNDISTURBED = dataclasses.replace(
    SMALL, preemptions_per_hour=0.0, rate_spread=0.0, stragglers=0.0, write_seconds=0.0, write_failures=0.0
)


def simulated(case, **changed):
    return Simulation(dataclasses.replace(case, **changed)).run()


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("shard_size", [1, 7, 500])
def test_without_failures_the_time_is_images_by_workers_and_rate(shard_size, even):
    case = dataclasses.replace(UNDISTURBED, images=20_000, shard_size=shard_size, even=even)
    outcome = Simulation(case).run()
    shards_of_a_worker = math.ceil(math.ceil(case.images / shard_size) / case.workers)
    whole = case.setup_seconds + shards_of_a_worker * shard_size / case.images_per_second
    assert whole - shard_size / case.images_per_second < outcome.seconds < whole + 1e-6
    assert outcome.useful_seconds == pytest.approx(case.images / case.images_per_second)
    assert outcome.paid_seconds == pytest.approx(case.workers * outcome.seconds)
    assert outcome.relabeled == 0


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("changed", [{}, {"write_failures": 0.3}, {"preemptions_per_hour": 60.0}])
def test_every_shard_is_written_once_in_the_end(changed, seed, even):
    outcome = simulated(SMALL, seed=seed, even=even, **changed)
    assert set(outcome.written) == {1}
    assert len(outcome.written) == math.ceil(SMALL.images / SMALL.shard_size)
    assert outcome.relabeled > 0
    assert 0 < outcome.useful_seconds < outcome.paid_seconds <= SMALL.workers * outcome.seconds


def test_the_same_seed_gives_the_same_figures():
    assert figures(SMALL) == figures(SMALL)
    assert figures(SMALL) != figures(dataclasses.replace(SMALL, seed=1))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("preemptions_per_hour", (0.0, 5.0, 20.0, 60.0)),
        ("write_failures", (0.0, 0.05, 0.2, 0.5)),
        ("replacement_seconds", (0.0, 300.0, 1200.0)),
        ("setup_seconds", (0.0, 60.0, 240.0)),
    ],
)
def test_more_failures_never_make_it_faster_on_average(name, values):
    case = dataclasses.replace(UNDISTURBED, preemptions_per_hour=10.0)  # Who replaces a straggler is faster.
    means = [
        statistics.mean(simulated(case, seed=seed, **{name: value}).seconds for seed in range(20)) for value in values
    ]
    assert means == sorted(means)
    assert means[0] < means[-1]


def test_one_shard_on_one_worker_takes_as_long_as_renewal_theory_says():
    """E[T] = (e^(l a) - 1) (1 / l + d): attempts of length a, preempted at the rate l, d seconds to a new machine."""
    case = dataclasses.replace(
        UNDISTURBED, images=20_000, shard_size=20_000, workers=1, preemptions_per_hour=12.0, notice_seconds=0.0
    )
    times = [simulated(case, seed=seed).seconds for seed in range(4000)]
    rate, attempt = case.preemptions_per_hour / HOUR, case.setup_seconds + 20_000 / case.images_per_second
    expected = (math.exp(rate * attempt) - 1) * (1 / rate + case.replacement_seconds)
    assert abs(statistics.mean(times) - expected) < 3 * statistics.stdev(times) / math.sqrt(len(times))


def test_a_failed_write_is_labeled_again():
    outcome = simulated(UNDISTURBED, images=2_000_000, write_failures=0.2)
    assert outcome.relabeled / 2_000_000 == pytest.approx(0.2 / (1 - 0.2), rel=0.1)


def test_whoever_is_done_helps_out_unless_all_was_handed_out_before():
    case = dataclasses.replace(UNDISTURBED, stragglers=0.2, seed=3)
    pull, even = simulated(case), simulated(case, even=True)
    slowest = case.setup_seconds + 0.1 * case.images / (case.images_per_second * case.straggler_rate)
    assert even.seconds == pytest.approx(slowest, rel=0.05)
    assert pull.seconds < 0.6 * even.seconds


def test_a_shard_longer_than_a_machine_lives_costs_more_than_it_saves():
    short, long = (figures(dataclasses.replace(SMALL, shard_size=size)) for size in (128, 16_384))
    assert short["useful"] > long["useful"]
    assert short["relabeled"] < long["relabeled"]
    assert short["lost"] == long["lost"] == 0
