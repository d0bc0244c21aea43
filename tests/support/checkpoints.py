"""Checkpoints whose content can be told from their step."""

import numpy as np

from tfpipeline.training import checkpoint


def arrays_at(step):
    """The arrays at a step, other ones at each."""
    return {"x": np.random.default_rng(step).normal(size=200), "step": np.array(step)}


def save(directory, step):
    """The path of a new checkpoint of these arrays."""
    return checkpoint.save(directory, step, arrays_at(step), {"seed": 0}, {"wait": step})


def assert_is(snapshot, step):
    """Fails unless the snapshot is that of this step to the bit."""
    assert snapshot.step == step and snapshot.state == {"wait": step}
    assert snapshot.arrays["x"].tobytes() == arrays_at(step)["x"].tobytes()
