import csv
import json
import os
import pathlib
import signal

import numpy as np
import pytest

from jobs import command, train
from jobs.training import session
from tests.support.jobs import argv_of, call, figures_of, run_job
from tests.support.processes import Child, finished
from tests.support.runs import files_of
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.system.flags import from_flat
from tfpipeline.training import run_directory
from tfpipeline.training.run_directory import newest_step


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A run left alone: its directory and its figures."""
    directory = tmp_path_factory.mktemp("whole")
    child = finished(directory / "said", run_job, argv_of(cache, directory / "run"))
    return directory / "run", figures_of(child)


@pytest.mark.slow
def test_figures_files_and_config(whole):
    directory, figures = whole
    names = "steps epochs seconds images_per_second validation_top1 validation_top5 agreement_top1 agreement_top5"
    assert set(names.split()) | {"teacher_top1", "relative_top1", "weights_sha256", "run"} <= figures.keys()
    assert (figures["steps"], figures["epochs"], figures["run"]) == (32, 4, str(directory))
    with open(directory / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["8", "16", "24", "32"]
    assert float(rows[-1]["validation_top1"]) == figures["validation_top1"]
    config = json.loads((directory / "config.json").read_text())
    assert config["experiment"]["network"] == "conv_classifier" and config["machine"]["tensorflow"]
    assert (directory / "model.keras").stat().st_size > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_three_moments_and_resumed_gives_the_same_bytes(cache, whole, tmp_path, seed):
    random = np.random.default_rng(seed)
    run, argv = tmp_path / "run", argv_of(cache, tmp_path / "run", "--resume")
    moments = np.sort(random.choice(np.arange(1, 26), 3, replace=False))
    for moment in moments:
        child = Child(tmp_path / "said", call, argv)
        while newest_step(run) < moment:
            assert not child.ended(0.002), child.said()
        child.ended(random.uniform(0, 0.05))
        child.kill()
    figures = figures_of(finished(tmp_path / "said", run_job, argv))
    assert figures["weights_sha256"] == whole[1]["weights_sha256"]
    assert (run / "history.csv").read_text() == (whole[0] / "history.csv").read_text()
    assert files_of(run) == files_of(whole[0])


CHANGES = [
    ({"learning_rate": 0.1}, "learning_rate was 0.002 and is 0.1"),
    ({"seed": 7}, "seed was 0 and is 7"),
    ({"limit": 63}, "images was "),
    ({"network_options": ["filters_per_layer=5"]}, "network_options was "),
    ({"epochs": 5}, "epochs was 4 and is 5"),
    ({"validation_limit": 23}, "validation_images was "),
]


@pytest.mark.slow
def test_every_changed_flag_and_dataset_is_refused_by_name(cache, whole, tmp_path):
    cases = [(argv_of(cache, whole[0], "--resume", **change), text) for change, text in CHANGES]
    child = finished(tmp_path / "said", refusals, cases, whole[0])
    assert child.said().count("refused: ") == len(CHANGES)


def refusals(cases, directory):
    """Checks in one process that each command line is refused with its text, and the run directory stays as it is."""
    before = {path: path.read_bytes() for path in pathlib.Path(directory).rglob("*") if path.is_file()}
    for argv, text in cases:
        with pytest.raises(UserError, match=f"--resume refuses a changed experiment: .*{text}") as refusal:
            train.run(command.parse(train.Config, argv, "train", ""))
        print("refused:", refusal.value)
    del before[pathlib.Path(directory) / run_directory.LOCK]
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0; it must be above 0"),
        ({"temperature": -1.0}, "--temperature is -1.0"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"save_every": "often"}, "--save-every often: write a number of steps"),
        ({"save_every": "0"}, "--save-every 0: write a number of steps"),
    ],
)
def test_a_flag_out_of_its_range_is_refused_before_anything_is_written(tmp_path, change, text):
    with pytest.raises(FlagError, match=text):
        values = {"images": "shapes", "labels": "truth", "run": str(tmp_path / "run"), **change}
        train.run(from_flat(train.Config, values))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_refused_beginning_leaves_no_directory(cache, tmp_path):
    child = Child(tmp_path / "said", run_job, argv_of(cache, tmp_path / "run", network="resnet"))
    child.ended()
    assert child.exit_code == 2
    assert "--network resnet: there is no such network" in child.said()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_network_is_written_waits_until_it_is_there(cache, tmp_path, monkeypatch, capsys, number):
    written = session.write_model

    def is_interrupted(*arguments):
        os.kill(os.getpid(), number)
        written(*arguments)

    monkeypatch.setattr(session, "write_model", is_interrupted)
    with pytest.raises(SystemExit) as end:
        call(argv_of(cache, tmp_path / "run", epochs=1, limit=16))
    said = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 75
    assert f"stopped by {number.name}; the training is done, and its network and figures are written" in said
    assert (tmp_path / "run" / "model.keras").is_file() and (tmp_path / "run" / "figures.json").is_file()
