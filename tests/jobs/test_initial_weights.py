"""--init: a training that begins with the weights of another run, and goes on to the bit where that one is gone."""

import shutil

import keras
import numpy as np
import pytest

from jobs import command, train
from jobs.training.initial_weights import start_from
from jobs.training.model_card import describe
from jobs.training.model_file import write_model
from models import networks
from tests.support.console import RecordingConsole
from tests.support.jobs import argv_of
from tfpipeline.system import UserError
from tfpipeline.training import run_directory

SHAPE, NAMES = (8, 8, 3), ("ant", "bee", "cow")


def network(classes=3, width=4, seed=0):
    keras.utils.set_random_seed(seed)
    options = {"filters_per_layer": (width,), "hidden_dims": (6,), "batch_norm": True, "dropout": 0.2}
    return networks.build("conv_classifier", SHAPE, classes, **options)


@pytest.fixture
def source(tmp_path):
    """(directory of a run, its network)."""
    model = network(seed=1)
    run_directory.write_config(tmp_path, {"flags": {}, "class_names": NAMES})
    write_model(model, tmp_path, describe(tmp_path, model))
    return tmp_path, model


def weights_of(model):
    """(all weights but those of the head, those of the head)."""
    head = model.get_layer("head")
    inner = [weight.numpy() for layer in model.layers if layer is not head for weight in layer.weights]
    return inner, [weight.numpy() for weight in head.weights]


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("names", [NAMES, ()])
def test_the_same_classes_get_all_weights(source, names):
    directory, theirs = source
    model, said = network(), RecordingConsole()
    known = start_from(str(directory), model, names, said)
    for ours, other in zip(weights_of(model), weights_of(theirs), strict=True):
        assert_same(ours, other)
    assert said.lines == [f"--init {directory}: begins with its weights"]
    assert known == start_from(str(directory), network(seed=5), names, said)


@pytest.mark.parametrize(
    ("classes", "names", "reason"),
    [(5, (), "it has 3 classes, this one 5"), (3, ("ant", "cow", "bee"), "2 of its 3 classes are others")],
)
def test_other_classes_get_a_new_head_and_that_is_said(source, classes, names, reason):
    directory, theirs = source
    model, said = network(classes), RecordingConsole()
    fresh = weights_of(model)[1]
    start_from(str(directory), model, names, said)
    assert_same(weights_of(model)[0], weights_of(theirs)[0])
    assert_same(weights_of(model)[1], fresh)
    assert f"but for a new head: {reason}" in said.lines[0]


def test_another_network_is_refused_and_nothing_is_changed(source):
    model = network(width=5)
    before = weights_of(model)[0]
    with pytest.raises(UserError, match=r"is not this one, conv_classifier .* or has other widths; give its --network"):
        start_from(str(source[0]), model, NAMES, RecordingConsole())
    assert_same(weights_of(model)[0], before)


@pytest.mark.slow
@pytest.mark.long
def test_it_decides_the_run_which_goes_on_to_the_bit_without_its_source(tmp_path):
    def run(directory, *switches, **changes):
        argv = argv_of(tmp_path / "cache", tmp_path / directory, *switches, schedule="constant", **changes)
        return train.run(command.parse(train.Config, argv, "train", "", train.recall))

    first, other = (run(name, epochs=1, seed=seed) for name, seed in (("first", 0), ("other", 1)))
    assert first["weights_sha256"] != other["weights_sha256"]
    whole = run("whole", epochs=2, init=tmp_path / "first")
    assert whole["weights_sha256"] != run("random", epochs=2)["weights_sha256"]
    run("resumed", epochs=1, init=tmp_path / "first")
    for wrong in ({"init": tmp_path / "other"}, {}):
        with pytest.raises(UserError, match="--resume refuses a changed experiment: init was "):
            run("resumed", "--resume", epochs=2, **wrong)
    shutil.rmtree(tmp_path / "first")
    resumed = run("resumed", "--resume", epochs=2, init=tmp_path / "first")
    assert resumed["weights_sha256"] == whole["weights_sha256"]
