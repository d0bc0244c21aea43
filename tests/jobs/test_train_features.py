"""Flags of jobs.train beyond the plain run, each in a process of its own that forks quickly."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from jobs import command, train
from jobs.training import Config
from tests.support.jobs import argv_of, figures_of, run_job
from tests.support.processes import finished
from tfpipeline.system.errors import UserError
from tfpipeline.training import checkpoint, run_directory
from tfpipeline.training import precision as precision_of_processor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def configured(argv) -> Config:
    return command.parse(Config, argv, "train", "")


def learn_by_heart(cache, directory):
    options = ["filters_per_layer=8", "hidden_dims=32"]
    figures = train.run(
        configured(
            argv_of(
                cache, directory, overfit=16, epochs=60, warmup_epochs=1, learning_rate=0.01, network_options=options
            )
        )
    )
    assert figures["validation_top1"] == 1.0 and figures["steps"] == 120


def test_a_few_images_are_learned_by_heart(cache, tmp_path):
    finished(tmp_path / "said", learn_by_heart, cache, tmp_path / "run")


def average_keep_best_and_stop(cache, directory):
    switches = ["--best"]
    changes = {"ema": 0.9, "clip_norm": 1.0, "patience": 1, "epochs": 12, "learning_rate": 0.02, "schedule": "constant"}
    figures = train.run(configured(argv_of(cache, directory, *switches, **changes)))
    newest = checkpoint.load_newest(directory / run_directory.CHECKPOINTS)
    top1 = [row["validation_top1"] for row in newest.state["history"]]
    assert figures["validation_top1"] == max(top1)
    assert len(top1) < 12 and top1[-1] <= max(top1[:-1]), "it must have stopped at the first epoch that is no better"
    model = keras.models.load_model(directory / "model.keras", compile=False)
    best = next(
        checkpoint.load(path)
        for path in checkpoint.newest_first(directory / run_directory.CHECKPOINTS)
        if checkpoint.step_of(path) == 8 * (1 + top1.index(max(top1)))
    )
    averages = [array for name, array in best.arrays.items() if name.endswith("/average")]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        assert np.array_equal(variable.numpy(), average)


def test_averages_best_epoch_patience_and_clipping(cache, tmp_path):
    finished(tmp_path / "said", average_keep_best_and_stop, cache, tmp_path / "run")


def train_in_bfloat16(cache, directory):
    precision_of_processor.bfloat16_slowdown = lambda: 6.3
    options = ["filters_per_layer=8", "hidden_dims=32", "batch_norm=true"]
    losses = {}
    for precision in ("float32", "mixed_bfloat16"):
        place = directory / precision
        train.run(configured(argv_of(cache, place, "--profile", precision=precision, network_options=options)))
        newest = checkpoint.load_newest(place / run_directory.CHECKPOINTS)
        assert {array.dtype.name for name, array in newest.arrays.items() if "kernel" in name} == {"float32"}
        losses[precision] = newest.state["history"][-1]["loss"]
        assert list((place / "profile").rglob("*.xplane.pb"))
    assert losses["float32"] != losses["mixed_bfloat16"]
    assert losses["mixed_bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_bfloat16_arithmetic_with_float32_weights_learns_alike_and_is_said_at_its_start_to_be_slow(cache, tmp_path):
    said = finished(tmp_path / "said", train_in_bfloat16, cache, tmp_path).said()
    before, after = said.split("bfloat16 takes 6.3 times as long as float32")
    assert "epoch 1 of 4" in before and "epoch 1 of 4" in after


def lose_the_disk(cache, directory):
    mirror = directory / "mirror"
    whole = train.run(configured(argv_of(cache, directory / "run", mirror=mirror)))
    shutil.rmtree(directory / "run")
    (folder,) = mirror.iterdir()
    checkpoint.newest_first(folder)[0].unlink()
    again = train.run(configured(argv_of(cache, directory / "run", "--resume", mirror=mirror)))
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert again["images_per_second"] is not None, "it had steps to repeat"
    assert again["seconds"] > whole["seconds"], "the first run's seconds came back, too"
    last = checkpoint.newest_first(folder)[0]
    last.unlink()  # As where the process was killed before it copied what it had saved last.
    train.run(configured(argv_of(cache, directory / "run", "--resume", mirror=mirror)))
    assert checkpoint.is_whole(last)


def learn_something_else_beside(cache, directory):
    """With the same flags and the same mirror, of fewer images: only what is learned tells the runs apart."""
    mirror = directory / "mirror"
    train.run(configured(argv_of(cache, directory / "one", mirror=mirror)))
    alone = train.run(configured(argv_of(cache, directory / "alone", limit=60)))
    beside = train.run(configured(argv_of(cache, directory / "beside", "--resume", limit=60, mirror=mirror)))
    assert beside["weights_sha256"] == alone["weights_sha256"] and beside["steps"] == alone["steps"]
    assert len(list(mirror.iterdir())) == 2


@pytest.mark.long
def test_a_run_beside_another_one_in_the_mirror_is_trained_as_if_alone(cache, tmp_path):
    finished(tmp_path / "said", learn_something_else_beside, cache, tmp_path)


def test_a_lost_disk_costs_only_the_steps_since_the_last_copy(cache, tmp_path):
    finished(tmp_path / "said", lose_the_disk, cache, tmp_path)


def train_on_two_devices(cache, directory, strategy):
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = 2 if strategy == "mirrored" else 1
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    scope = tf.distribute.MirroredStrategy
    tf.distribute.MirroredStrategy = lambda: scope([f"cpu:{number}" for number in range(devices)])
    # The norm is that of the devices' gradients together, and every one is above it.
    changes = {"strategy": strategy, "epochs": 2, "optimizer": "sgd", "clip_norm": 0.1}
    train.run(configured(argv_of(cache, directory, **changes)))
    train.run(configured(argv_of(cache, directory, "--resume", **changes)))


def test_two_devices_learn_what_one_does(cache, tmp_path):
    arrays = {}
    for strategy in ("one", "mirrored"):
        finished(tmp_path / f"said-{strategy}", train_on_two_devices, cache, tmp_path / strategy, strategy)
        newest = checkpoint.load_newest(tmp_path / strategy / run_directory.CHECKPOINTS)
        arrays[strategy] = newest.arrays
        config = json.loads((tmp_path / strategy / "config.json").read_text())
        assert config["experiment"]["replicas"] == (2 if strategy == "mirrored" else 1)
    for name, array in arrays["one"].items():
        np.testing.assert_allclose(arrays["mirrored"][name], array, rtol=1e-5, atol=1e-6)


def train_with_muon(cache, directory):
    options = ["filters_per_layer=4,6"]
    changes = {"network": "whitened_cnn", "network_options": options, "optimizer": "muon", "bias_factor": 8.0}
    changes |= {"epochs": 2, "learning_rate": 0.1, "save_every": "3"}
    whole = train.run(configured(argv_of(cache, directory, **changes)))
    kernels = [  # Of the layer that is computed from images.
        next(array for array in checkpoint.load(path).arrays.values() if array.shape == (2, 2, 3, 24))
        for path in checkpoint.newest_first(directory / run_directory.CHECKPOINTS)
    ]
    assert len(kernels) == 3 and all(np.array_equal(kernel, kernels[0]) for kernel in kernels)
    checkpoint.newest_first(directory / run_directory.CHECKPOINTS)[0].unlink()
    resumed = train.run(configured(argv_of(cache, directory, "--resume", **changes)))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    with pytest.raises(UserError, match=r"bias_factor was 8.0 and is None"):
        train.run(configured(argv_of(cache, directory, "--resume", **(changes | {"bias_factor": 1.0}))))


def test_muon_and_a_layer_computed_from_images_go_on_to_the_same_bits(cache, tmp_path):
    finished(tmp_path / "said", train_with_muon, cache, tmp_path / "run")


@pytest.mark.long
def test_a_longer_constant_schedule_goes_on(cache, tmp_path):
    run, changes = tmp_path / "run", {"schedule": "constant", "warmup_epochs": 0.0}
    finished(tmp_path / "said", run_job, argv_of(cache, run, epochs=1, **changes))
    longer = finished(tmp_path / "said", run_job, argv_of(cache, run, "--resume", epochs=2, **changes))
    whole = finished(tmp_path / "whole", run_job, argv_of(cache, tmp_path / "other", epochs=2, **changes))
    assert figures_of(longer)["weights_sha256"] == figures_of(whole)["weights_sha256"]


def train_on_three_sizes(cache, directory):
    options = ["filters_per_layer=4", "global_pooling=mean", "batch_norm=true", "dropout=0.2"]
    changes = {"sizes": "8,12,16", "network_options": options, "schedule": "constant"}
    train.run(configured(argv_of(cache, directory / "resumed", epochs=1, **changes)))
    resumed = train.run(configured(argv_of(cache, directory / "resumed", "--resume", epochs=2, **changes)))
    whole = train.run(configured(argv_of(cache, directory / "whole", epochs=2, **changes)))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    row = run_directory.read_history(directory / "whole")[-1]
    at_sizes = [row[f"validation_top1_at_{size}"] for size in (8, 12, 16)]
    assert row["validation_top1"] == pytest.approx(sum(at_sizes) / 3)
    assert {"training_top1", "validation_loss", "learning_rate"} <= row.keys()
    assert whole["validation_top1_at_8"] == at_sizes[0]
    model = keras.models.load_model(directory / "whole" / "model.keras", compile=False)
    assert model.input_shape == (None, None, None, 3)
    enlarged = [*argv_of(cache, directory / "enlarged", "--enlarge", **(changes | {"epochs": 1}))]
    train.run(configured(enlarged))
    model = keras.models.load_model(directory / "enlarged" / "model.keras", compile=False)
    assert model.input_shape == (None, 16, 16, 3)
    with pytest.raises(UserError, match="sizes was 8,12,16 and is 16"):
        train.run(configured(argv_of(cache, directory / "whole", "--resume", **(changes | {"sizes": "16"}))))


@pytest.mark.long
def test_a_training_on_three_sizes_goes_on_to_the_bit_and_measures_each(cache, tmp_path):
    finished(tmp_path / "said", train_on_three_sizes, cache, tmp_path)


def misfits(cache, directory):
    for changes, text in (
        ({"sizes": "8,16"}, "it flattens them, so all must have one known height and width"),
        ({"sizes": "8,16px"}, "--sizes 8,16px: write whole numbers of pixels"),
        ({"monitor": "agreement_top1", "patience": 2}, "--monitor agreement_top1: there are no --validation-labels"),
        ({"augment": "twirl"}, "--augment twirl: there is no twirl; choose from"),
        ({"network": "unheard_of"}, "--network unheard_of: there is no such network"),
        ({"labels": "nowhere"}, "nowhere is no label store"),
    ):
        with pytest.raises(UserError, match=text):
            train.run(configured(argv_of(cache, directory, **changes)))
        assert not pathlib.Path(directory).exists()


def test_flags_that_do_not_go_together_write_nothing(cache, tmp_path):
    finished(tmp_path / "said", misfits, cache, tmp_path / "run")
