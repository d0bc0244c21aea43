"""Batch normalization, activations and cross-entropy against PyTorch's, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from models.gradients.batch_normalization import batch_normalization, fixed_normalization
from models.gradients.softmax_cross_entropy import class_cross_entropy, softmax_cross_entropy
from models.layers.activation import FUNCTIONS
from models.layers.normalization import BatchNormalization
from tests.support.oracles import assert_gradient

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

EPSILON = 1e-3


def ours(function, inputs, cotangent):
    """The outputs and the gradients by all inputs."""
    inputs = [tf.constant(array) for array in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return outputs.numpy(), tape.gradient(outputs, inputs, output_gradients=tf.constant(cotangent))


def theirs(function, inputs, cotangent):
    """The same in PyTorch."""
    inputs = [torch.tensor(array, requires_grad=True) for array in inputs]
    outputs = function(*inputs)
    return outputs.detach().numpy(), torch.autograd.grad(outputs, inputs, torch.tensor(cotangent))


def assert_same(function, peer, inputs, cotangent):
    outputs, gradients = ours(function, inputs, cotangent)
    expected, oracles = theirs(peer, inputs, cotangent)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-10)
    for gradient, oracle in zip(gradients, oracles, strict=True):
        assert_gradient(gradient, oracle.numpy(), 1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (1, 7, 2, 6), (6, 5)])
def test_batch_normalization(shape, training):
    random = np.random.default_rng(0)
    x, cotangent = random.normal(2, 3, (2, *shape))
    gamma, beta, mean = random.normal(size=(3, shape[-1]))
    variance = random.uniform(0.5, 2, shape[-1])

    def function(x, gamma, beta):
        if training:
            return batch_normalization(x, gamma, beta, EPSILON)[0]
        return fixed_normalization(x, gamma, beta, mean, variance, EPSILON)

    def peer(x, gamma, beta):
        statistics = torch.tensor(mean), torch.tensor(variance)
        channels_first = x.movedim(-1, 1)
        y = torch.nn.functional.batch_norm(channels_first, *statistics, gamma, beta, training, 0.1, EPSILON)
        return y.movedim(1, -1)

    assert_same(function, peer, (x, gamma, beta), cotangent)


def test_moving_mean_follows_with_one_minus_their_momentum():
    x = np.random.default_rng(1).normal(3, 2, (4, 5, 6, 3))
    layer = BatchNormalization(momentum=0.7, dtype="float64")
    peer = torch.nn.BatchNorm2d(3, momentum=0.3, dtype=torch.float64)
    for scale in (1, 2):
        layer(x * scale, training=True)
        peer(torch.tensor(x * scale).movedim(-1, 1))
    np.testing.assert_allclose(layer.moving_mean, peer.running_mean.numpy(), atol=1e-10)
    # Theirs follows the unbiased variance, over n - 1.
    unbiased = 0.7**2 + (peer.running_var.numpy() - 0.7**2) * (4 * 5 * 6 - 1) / (4 * 5 * 6)
    np.testing.assert_allclose(layer.moving_variance, unbiased, atol=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(name):
    x, cotangent = np.random.default_rng(2).normal(size=(2, 3, 4, 5)) * 3
    peer = torch.tanh if name == "tanh" else torch.sigmoid if name == "sigmoid" else getattr(torch.nn.functional, name)
    assert_same(FUNCTIONS[name], peer, (x,), cotangent)


def test_cross_entropy_with_classes_and_with_distributions():
    random = np.random.default_rng(3)
    logits, cotangent = random.normal(size=(6, 5)) * 3, random.normal(size=6)
    classes, distributions = random.integers(0, 5, 6), random.dirichlet(np.ones(5), 6)
    cross_entropy = torch.nn.functional.cross_entropy
    assert_same(
        lambda z: class_cross_entropy(z, tf.constant(classes)),
        lambda z: cross_entropy(z, torch.tensor(classes), reduction="none"),
        (logits,),
        cotangent,
    )
    assert_same(
        softmax_cross_entropy, lambda z, p: cross_entropy(z, p, reduction="none"), (logits, distributions), cotangent
    )
    # Their smoothing spreads eps over all K classes, ours over the K - 1 others: eps (K - 1) / K is the same.
    assert_same(
        lambda z: class_cross_entropy(z, tf.constant(classes), 0.2 * 4 / 5),
        lambda z: cross_entropy(z, torch.tensor(classes), reduction="none", label_smoothing=0.2),
        (logits,),
        cotangent,
    )
