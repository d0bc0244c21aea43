import numpy as np
import pytest
import tensorflow as tf

from models import losses
from models.flags import ObjectiveFlags
from models.objective import Objective
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.batches.mixing import OWN_WEIGHT, PARTNER, parse_mixing, random_of_step
from tfpipeline.system.errors import FlagError

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 10, 12, 3), np.uint8)

OBJECTIVE = Objective(ObjectiveFlags(), None)


def mixed(spec, step=0):
    return parse_mixing(spec)(IMAGES, random_of_step(1, step))


def test_mixup_is_the_weighted_mean_of_two_images():
    images, partner, weight = mixed("mixup:0.7")
    for i in range(30):
        expected = weight[i] * IMAGES[i].astype(float) + (1 - weight[i]) * IMAGES[partner[i]]
        assert np.abs(images[i] - expected).max() < 0.51
    assert weight.dtype == np.float32 and weight.std() > 0


def test_cutmix_pastes_one_window_and_counts_what_is_left():
    images, partner, weight = mixed("cutmix:1")
    windows = 0
    for i in range(30):
        pasted = (images[i] == IMAGES[partner[i]]).all(-1) & (IMAGES[i] != IMAGES[partner[i]]).any(-1)
        assert (images[i][~pasted] == IMAGES[i][~pasted]).all()
        if pasted.any() and partner[i] != i:
            rows, columns = np.nonzero(pasted)
            assert pasted.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert weight[i] == pytest.approx(1 - pasted.mean())
            windows += 1
    assert windows > 15


@pytest.mark.parametrize("spec", ["mixup:0.2", "cutmix:1"])
def test_batches_from_any_step_on_are_mixed_alike(spec):
    def training(first_step, steps):
        targets = {"truth": np.arange(30, dtype=np.int32)}
        dataset = TrainingBatches(IMAGES, targets, 7, 3, mix=parse_mixing(spec)).from_step(first_step)
        return list(dataset.take(steps).as_numpy_iterator())

    whole = training(0, 9)
    for step in range(9):
        for ours, theirs in zip(training(step, 9 - step), whole[step:], strict=True):
            assert ours.keys() == theirs.keys() == {"index", "images", "truth", "own_weight", "partner_truth"}
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert len({batch["own_weight"].tobytes() for batch in whole}) == 9
    assert all(set(batch["partner_truth"]) == set(batch["truth"]) for batch in whole)


def test_the_gradient_is_that_of_the_mixed_answers():
    random = np.random.default_rng(0)
    own, other = random.dirichlet(np.ones(5), (2, 4)).astype(np.float32)
    weight = random.random(4).astype(np.float32)
    logits = tf.Variable(random.normal(size=(4, 5)).astype(np.float32))
    every = np.tile(np.arange(5, dtype=np.int32), (4, 1))

    def answers(probabilities):
        return {"top_k": every, "log_probs": np.log(probabilities), "log_tail": np.full(4, -np.inf, np.float32)}

    batch = answers(own) | {PARTNER + name: array for name, array in answers(other).items()}
    batch |= {OWN_WEIGHT: weight}
    mixture = answers(weight[:, None] * own + (1 - weight[:, None]) * other)
    gradients = []
    for loss, known in ((OBJECTIVE, batch), (losses.distillation, mixture)):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss(logits, {name: tf.constant(array) for name, array in known.items()}))
        gradients.append(tape.gradient(total, logits).numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_each_of_a_pair_counts_by_its_own_weight():
    random = np.random.default_rng(1)
    logits = tf.constant(random.normal(size=(3, 5)).astype(np.float32))
    batch = {
        "truth": [0, 1, 2],
        "weight": [2.0, 0.0, 1.0],
        "partner_truth": [1, 2, 0],
        "partner_weight": [0.0, 1.0, 2.0],
    }
    batch = {name: tf.constant(values) for name, values in batch.items()} | {"own_weight": tf.constant([0.25, 0.5, 1])}
    loss = OBJECTIVE(logits, batch).numpy()
    log_q = tf.nn.log_softmax(logits).numpy()
    expected = [0.25 * 2 * -log_q[0, 0], 0.5 * -log_q[1, 2], -log_q[2, 2]]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("spec", ["mixup", "mixup:0", "cutmix:x", "blend:1", "cutmix:-1"])
def test_a_wrong_spec_is_refused(spec):
    with pytest.raises(FlagError, match=f"--mix {spec}: write none, mixup:ALPHA or cutmix:ALPHA"):
        parse_mixing(spec)
