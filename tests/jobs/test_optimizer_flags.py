"""The optimizers that the flags name, with the momentum that their help says."""

import keras
import pytest

from jobs.training.optimizer import build_optimizer
from models.flags import OptimizerFlags
from models.optimizers import SGD, Muon
from tfpipeline.system import FlagError

KINDS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": SGD,
    "momentum": SGD,
    "muon": Muon,
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


def test_a_rate_of_their_own_have_biases_where_the_optimizer_knows_of_it():
    optimizer = build_optimizer(OptimizerFlags(optimizer="sgd", bias_factor=64.0), 3, 4)
    assert optimizer.bias_factor == 64
    with pytest.raises(FlagError, match="--bias-factor is for sgd, momentum and muon; --optimizer adamw has none"):
        OptimizerFlags(bias_factor=64.0)
