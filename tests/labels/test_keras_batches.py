"""Labels as batches for Keras's own fit: the loss is that of jobs.train, the metrics count agreement."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from labeling.labels import open_labels
from labeling.labels.keras_batches import probabilities
from models import networks
from models.fit import Distillation, agreement_metrics
from models.losses import distillation
from tests.support.images import store_of
from tests.support.worlds import World
from tfpipeline.batches import Answers
from tfpipeline.system import UserError


@pytest.fixture
def labeled(tmp_path):
    """(images, their label store)"""
    flags = World().build(tmp_path)
    store = store_of(flags["images"], truth=flags["truth"], cache=tmp_path / "cache")
    return store, open_labels(flags["labels"])


def answers(k, classes=7, count=5):
    rng = np.random.default_rng(k)
    probs = -np.sort(-rng.dirichlet(np.ones(classes), count).astype(np.float32))
    top_k = np.stack([rng.permutation(classes) for _ in range(count)])[:, :k].astype(np.int32)
    with np.errstate(divide="ignore"):
        return Answers(top_k, np.log(probs[:, :k]), np.log(probs[:, k:].sum(1)))


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_of_whole_distributions_is_that_of_the_stored_answers(k, temperature):
    stored = answers(k)
    logits = tf.constant(np.random.default_rng(9).normal(size=(5, 7)), tf.float32)
    batch = {name: tf.constant(array) for name, array in stored.arrays().items()}
    whole = probabilities(stored, 7)
    np.testing.assert_allclose(tf.reduce_sum(whole, -1), 1, rtol=1e-5)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        ours = Distillation(temperature, reduction=None)(whole, logits)
        theirs = distillation(logits, batch, temperature)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(ours, logits), tape.gradient(theirs, logits), rtol=1e-4, atol=1e-6)


def test_a_certain_teacher_gives_no_nan():
    certain = np.eye(4, dtype=np.float32)[[1, 3]]
    logits = tf.constant([[0.0, 1, 2, 3]] * 2)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = Distillation()(certain, logits)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True)(certain, logits)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_batches_join_each_image_with_its_answer(labeled):
    images, labels = labeled
    stored = labels.read_all()
    for pixels, probs in labels.dataset(images, 5, seed=3).take(4):
        for image, answer in zip(pixels.numpy(), probs.numpy(), strict=True):
            (number,) = [n for n in range(len(images)) if np.array_equal(images.images[n], image)]
            assert answer.argmax() == stored.top_k[number, 0, 0]
            assert answer.max() == pytest.approx(0.5, abs=1e-3) and answer.sum() == pytest.approx(1, abs=1e-3)


def test_other_images_are_refused(labeled, tmp_path):
    other = store_of("shapes", limit=16, size=8, cache=tmp_path / "cache")
    with pytest.raises(UserError):
        labeled[1].dataset(other, 4)


def test_fit_takes_images_labels_loss_and_metrics_and_saves_them(labeled, tmp_path):
    images, labels = labeled
    keras.utils.set_random_seed(0)
    model = networks.build("mlp", images.images.shape[1:], labels.spec.classes, hidden_dims=(32,))
    model.compile(keras.optimizers.Adam(1e-2), Distillation(2.0), metrics=agreement_metrics())
    fitted = model.fit(labels.dataset(images, 8, augment="none"), steps_per_epoch=2, epochs=30, verbose=0).history
    assert fitted["loss"][-1] < fitted["loss"][0] / 4 and fitted["agreement_top1"][-1] > 0.9
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").loss.temperature == 2.0
