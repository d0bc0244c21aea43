"""The optimizers that the flags name are Keras's, with the momentum that their help says."""

import keras
import pytest

from jobs.training.optimizer import build_optimizer
from models.flags import OptimizerFlags

KINDS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
    "momentum": keras.optimizers.SGD,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_name_is_its_optimizer(name):
    optimizer = build_optimizer(OptimizerFlags(optimizer=name, clip_norm=2.0, ema=0.9), 3, 4)
    assert type(optimizer) is KINDS[name]
    assert (optimizer.global_clipnorm, optimizer.use_ema) == (2.0, True)


@pytest.mark.parametrize(
    ("name", "momentum", "nesterov"), [("sgd", 0.9, True), ("sgd", 0.0, False), ("momentum", 0.9, False)]
)
def test_sgd_has_nesterovs_momentum_and_momentum_the_plain_one(name, momentum, nesterov):
    optimizer = build_optimizer(OptimizerFlags(optimizer=name, momentum=momentum), 3, 4)
    assert (optimizer.momentum, optimizer.nesterov) == (momentum, nesterov)
