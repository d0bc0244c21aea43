"""Losses against the whole distributions that the stored answers stand for, in NumPy float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flags import ObjectiveFlags
from models.losses import distillation, hard_labels, teacher_class, tempered_answer
from models.objective import Objective
from tfpipeline.system import FlagError

BOUNDED = settings(max_examples=30, deadline=None, derandomize=True)


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def stored(log_probs, k):
    """What a label store keeps of whole distributions (B, K), as a batch; and the distributions that it stands for."""
    classes = log_probs.shape[-1]
    top_k = np.argsort(-log_probs, axis=-1)[:, :k]
    kept = np.take_along_axis(log_probs, top_k, -1)
    probs = np.exp(log_probs)
    np.put_along_axis(probs, top_k, 0, -1)
    tail = probs.sum(-1)
    meant = np.tile(tail[:, None] / max(classes - k, 1), (1, classes))
    np.put_along_axis(meant, top_k, np.exp(kept), -1)
    with np.errstate(divide="ignore"):
        log_tail = np.log(tail)
    batch = {"top_k": top_k.astype(np.int32), "log_probs": kept.astype(np.float32), "log_tail": np.float32(log_tail)}
    return {name: tf.constant(array) for name, array in batch.items()}, meant


def tempered_divergence(meant, logits, temperature):
    """T^2 KL(p_T || softmax(z / T)), from the definition."""
    powered = meant ** (1 / temperature)
    p = powered / powered.sum(-1, keepdims=True)
    log_q = log_softmax(logits / temperature)
    with np.errstate(divide="ignore", invalid="ignore"):
        return temperature**2 * np.where(p > 0, p * (np.log(p) - log_q), 0).sum(-1)


@pytest.mark.slow
@BOUNDED
@given(
    classes=st.integers(2, 12),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 7.0]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_distillation_equals_the_divergence_from_the_whole_distribution(classes, temperature, seed, data):
    k = data.draw(st.integers(1, classes))
    random = np.random.default_rng(seed)
    batch, meant = stored(log_softmax(random.normal(size=(5, classes)) * 3), k)
    logits = random.normal(size=(5, classes)) * 2
    loss = distillation(tf.constant(logits, tf.float32), batch, temperature)
    np.testing.assert_allclose(loss, tempered_divergence(meant, logits, temperature), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_student_with_the_teachers_logits_has_no_loss_and_no_gradient(temperature):
    logits = np.random.default_rng(0).normal(size=(6, 9)) * 3
    batch, _ = stored(log_softmax(logits), 9)
    z = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = distillation(z, batch, temperature)
    np.testing.assert_allclose(loss, 0, atol=1e-4)
    np.testing.assert_allclose(tape.gradient(loss, z), 0, atol=1e-4)


def test_the_gradient_is_that_of_the_definition():
    random = np.random.default_rng(1)
    batch, meant = stored(log_softmax(random.normal(size=(4, 7)) * 2), 3)
    z = tf.constant(random.normal(size=(4, 7)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = distillation(z, batch, 3.0)
    powered = meant ** (1 / 3)
    p = powered / powered.sum(-1, keepdims=True)
    np.testing.assert_allclose(tape.gradient(loss, z), 3 * (np.exp(log_softmax(z.numpy() / 3)) - p), atol=1e-5)


def test_a_sure_teacher_gives_finite_losses_and_gradients():
    batch = {
        "top_k": tf.constant([[2, 0], [1, 3]]),
        "log_probs": tf.constant([[0.0, -np.inf], [-1e-4, -20.0]], tf.float32),
        "log_tail": tf.constant([-np.inf, -np.inf], tf.float32),
    }
    z = tf.constant([[0.0, 1.0, 2.0, 3.0], [1e4, -1e4, 0.0, 0.0]])
    for temperature in (1.0, 2.0):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = distillation(z, batch, temperature)
        assert np.all(np.isfinite(loss)) and np.all(np.isfinite(tape.gradient(loss, z)))
    np.testing.assert_allclose(distillation(z, batch)[0], -log_softmax(z.numpy())[0, 2], rtol=1e-5)


@pytest.mark.parametrize("k", [2, 5])
def test_tempered_answers_sum_to_one_though_the_stored_ones_were_rounded(k):
    batch, _ = stored(log_softmax(np.random.default_rng(2).normal(size=(4, 5))), k)
    rounded = tf.cast(tf.cast(batch["log_probs"], tf.float16), tf.float32) + 0.01
    log_probs, log_rest = tempered_answer(rounded, batch["log_tail"], 5, 1.5)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1) + (5 - k) * np.exp(log_rest), 1, rtol=1e-5)


def test_hard_labels_equal_the_smoothed_cross_entropy_and_leave_unknown_truth_out():
    logits = np.random.default_rng(3).normal(size=(3, 4))
    z = tf.constant(logits, tf.float32)
    batch = {"truth": tf.constant([1, -1, 3])}
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = hard_labels(z, batch, label_smoothing=0.3)
    p = np.full((3, 4), 0.1)
    p[[0, 2], [1, 3]] = 0.7
    expected = -(p * log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(loss, [expected[0], 0.0, expected[2]], rtol=1e-5)
    np.testing.assert_array_equal(tape.gradient(loss, z)[1], 0.0)


def test_the_mix_weighs_both_and_unknown_truth_adds_nothing():
    random = np.random.default_rng(4)
    batch, _ = stored(log_softmax(random.normal(size=(3, 5))), 2)
    batch["truth"] = tf.constant([4, -1, 0])
    z = tf.constant(random.normal(size=(3, 5)), tf.float32)
    hard = hard_labels(z, batch, 0.1).numpy()
    assert hard[1] == 0
    for targets, by_teacher in (("soft", distillation(z, batch)), ("hard", teacher_class(z, batch, 0.1))):
        flags = ObjectiveFlags(targets=targets, truth_weight=0.25, label_smoothing=0.1)
        expected = 0.75 * by_teacher.numpy() + 0.25 * hard
        np.testing.assert_allclose(Objective(flags, None)(z, batch), expected, rtol=1e-6)


def test_the_teachers_first_class_is_learned_as_the_truth_is():
    random = np.random.default_rng(6)
    batch, _ = stored(log_softmax(random.normal(size=(4, 5))), 3)
    z = tf.constant(random.normal(size=(4, 5)), tf.float32)
    as_truth = hard_labels(z, {"truth": batch["top_k"][:, 0]}, 0.2)
    np.testing.assert_array_equal(teacher_class(z, batch, 0.2), as_truth)
    expected = -np.take_along_axis(log_softmax(z.numpy()), batch["top_k"].numpy()[:, :1], -1)[:, 0]
    np.testing.assert_allclose(teacher_class(z, batch), expected, rtol=1e-5)


def test_a_weight_scales_loss_and_gradient_and_0_leaves_none():
    random = np.random.default_rng(7)
    batch, _ = stored(log_softmax(random.normal(size=(3, 5))), 2)
    batch["weight"] = tf.constant([2.0, 0.0, 0.5])
    z = tf.constant(random.normal(size=(3, 5)), tf.float32)
    results = []
    for loss in (distillation, Objective(ObjectiveFlags(), None)):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(z, batch)
        results.append((value.numpy(), tape.gradient(value, z).numpy()))
    (plain, gradient), (scaled, scaled_gradient) = results
    np.testing.assert_allclose(scaled, plain * [2, 0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(scaled_gradient, gradient * np.array([[2], [0], [0.5]]), rtol=1e-6, atol=1e-7)
    assert not scaled_gradient[1].any() and gradient[1].any()


def test_every_loss_is_float32_per_sample_for_bfloat16_logits():
    random = np.random.default_rng(5)
    batch, _ = stored(log_softmax(random.normal(size=(3, 5))), 2)
    batch["truth"] = tf.constant([4, -1, 0])
    z = tf.cast(random.normal(size=(3, 5)), tf.bfloat16)
    batch["weight"] = tf.constant([1.0, 2.0, 0.0])
    for loss in (distillation, hard_labels, teacher_class, Objective(ObjectiveFlags(truth_weight=0.5), None)):
        loss = loss(z, batch)
        assert (loss.dtype, loss.shape) == (tf.float32, (3,))


def test_values_out_of_range_are_refused():
    batch, _ = stored(log_softmax(np.zeros((2, 4))), 4)
    batch["truth"] = tf.constant([0, 1])
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        distillation(tf.zeros((2, 4)), batch, 0)
    with pytest.raises(FlagError, match=r"--truth-weight is 1.5; it must be in 0..1"):
        ObjectiveFlags(truth_weight=1.5)
    with pytest.raises(ValueError, match="4 class indices were given for logits of 3 classes"):
        distillation(tf.zeros((2, 3)), batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss, key, right",
    [(distillation, "top_k", [[1, 0], [2, 0]]), (hard_labels, "truth", [1, -1]), (teacher_class, "top_k", [[1], [2]])],
)
def test_a_class_out_of_range_is_nan_in_xla_and_of_its_sample_alone(loss, key, right):
    batch = {key: tf.constant(right), "log_probs": tf.fill((2, 2), -1.0), "log_tail": tf.fill((2,), -2.0)}
    compiled = tf.function(lambda batch: loss(tf.constant([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0]]), batch), jit_compile=True)
    expected = compiled(batch)
    assert np.all(np.isfinite(expected))
    wrong = np.array(right)
    wrong.flat[0] = 3
    found = compiled({**batch, key: tf.constant(wrong, tf.int32)})
    assert np.isnan(found[0]) and found[1] == expected[1]


def test_hits_count_the_first_answer_of_the_teacher_or_the_truth_and_a_mixture_by_its_shares():
    logits = tf.constant([[0.0, 2, 1], [3, 0, 0], [0, 0, 1], [0, 1, 0]])
    objective = Objective(ObjectiveFlags(), None)
    truth = {"truth": tf.constant([1, 2, -1, 1])}
    assert objective.hits(logits, truth).numpy().tolist() == [1, 0, 0, 1]
    answers = {"top_k": tf.constant([[2, 1], [0, 1], [2, 0], [1, 0]])}
    assert objective.hits(logits, truth | answers).numpy().tolist() == [0, 1, 1, 1]
    mixed = truth | {"partner_truth": tf.constant([1, 0, 2, 0]), "own_weight": tf.constant([0.75, 0.5, 0.25, 1])}
    assert objective.hits(logits, mixed).numpy().tolist() == [1, 0.5, 0.75, 1]
