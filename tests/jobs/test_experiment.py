"""jobs.experiment: sweeps are read or refused by name; a sweep that is run again goes on."""

import json
import signal
import subprocess
import sys

import pytest

from jobs import command, experiment, train
from jobs.training.sweep import command_line_of, read_sweep
from tests.support.repository import ROOT
from tfpipeline.system.errors import FlagError, UserError

SWEEP = """
about = "Two networks"
[flags]
images = "shapes"
limit = 60
cache = "$SWEEP_CACHE"
labels = "truth"
validation_split = "valid"
validation_limit = 30
epochs = 1
batch_size = 20
network = "mlp"
[runs]
narrow = { network_options = ["hidden_dims=4"] }
wide = { network_options = ["hidden_dims=$SWEEP_WIDTH", "dropout=0.1"], seed = 3 }
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SWEEP_WIDTH", "8")
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    return path


@pytest.mark.slow
def test_a_sweep_trains_its_runs_and_again_takes_what_is_done(sweep, tmp_path, capsys):
    config = experiment.Config(sweep=str(sweep), out=str(tmp_path / "out"), quiet=True)
    figures = experiment.run(config)
    assert [row["steps"] for row in figures["runs"].values()] == [3, 3]
    flags = json.loads((tmp_path / "out" / "wide" / "config.json").read_text())["flags"]
    assert (flags["network_options"], flags["seed"], flags["limit"]) == (["hidden_dims=8", "dropout=0.1"], 3, 60)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| narrow | `--network-options hidden_dims=4` |" in table
    reached = f"{100 * figures['runs']['wide']['validation_top1']:.1f} %"
    assert reached in next(line for line in table.splitlines() if line.startswith("| wide"))
    assert table.split("\n\n", 1)[1] in capsys.readouterr().out
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = experiment.run(config)["runs"]
    for name, row in figures["runs"].items():
        assert again[name]["images_per_second"] is None  # No step was taken.
        assert again[name] == row | {key: again[name][key] for key in ("seconds", "images_per_second")}
    sweep.write_text(SWEEP.replace("seed = 3", "seed = 4"))
    with pytest.raises(UserError, match=r"jobs\.train ended with 1"):
        experiment.run(config)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_saves_its_run_and_goes_on_to_the_same_weights(sweep, tmp_path):
    sweep.write_text(SWEEP.split("wide =")[0].replace("epochs = 1", "epochs = 80"))

    def start(out):
        job = [sys.executable, "-m", "jobs.experiment", "--sweep", sweep, "--out", tmp_path / out]
        return subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    stopped = start("stopped")
    assert any(line.startswith("epoch 2 of 80") for line in stopped.stderr)
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate()
    assert stopped.returncode == 75, said
    assert "stopped by SIGTERM" in said
    assert not (tmp_path / "stopped" / "table.md").exists()
    figures = {}
    for out in ("stopped", "whole"):
        answer, said = start(out).communicate()
        assert ("going on at step" in said) == (out == "stopped")
        figures[out] = json.loads(answer.splitlines()[-1])["runs"]["narrow"]
    assert figures["stopped"]["weights_sha256"] == figures["whole"]["weights_sha256"]


@pytest.mark.slow
def test_what_training_refuses_is_named_and_ends_the_sweep(sweep, tmp_path):
    sweep.write_text(SWEEP.replace('labels = "truth"', 'labels = "nowhere"'))
    command = [sys.executable, "-m", "jobs.experiment", "--sweep", sweep, "--out", tmp_path / "out", "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "train: nowhere" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("experiment: jobs.train ended with 1")
    assert not (tmp_path / "out" / "table.md").exists()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("about = ", UserError, "is no TOML file"),
        ("about = 'x'", FlagError, r"must have `about`, \[flags\] and \[runs\]"),
        ("colour = 1\n[runs]\na = {}", FlagError, "must have"),
        ("[runs]\na = 1", FlagError, "must have"),
        ("[runs]\n'../a' = {}", FlagError, "run '../a' names a directory"),
        ("[flags]\nepoch = 1\n[runs]\na = {}", FlagError, r"\[flags\] has 'epoch', which is no flag"),
        ("[runs]\na = {run = 'b'}", FlagError, "run a has 'run', which is no flag that a sweep gives"),
        ("[runs]\na = {labels = '$NOT_THERE/x'}", FlagError, "NOT_THERE stands after a \\$ but is no environment"),
    ],
)
def test_a_wrong_sweep_is_refused_by_name(text, error, message, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_sweep(path)


def test_a_missing_sweep_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.toml does not exist"):
        read_sweep(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "recipes").glob("*.toml")),
    ids=lambda path: path.stem,
)
def test_the_sweeps_here_have_flags_of_training(path, monkeypatch):
    monkeypatch.setenv("D", "archives")
    monkeypatch.setenv("L", "labels")
    sweep = read_sweep(path)
    assert sweep.about
    for changes in sweep.changes.values():
        command.parse(train.Config, [*command_line_of(sweep.shared | changes), "--run", "run"], "train", "")
