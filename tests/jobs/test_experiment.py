"""jobs.experiment: sweeps are read or refused by name; a sweep that is run again goes on."""

import importlib
import json
import pathlib
import signal
import subprocess
import sys

import pytest

from jobs import command, experiment
from jobs.reports import sweep as reports
from jobs.training.sweep import find_sweep, read_sweep
from tests.support.repository import ROOT
from tfpipeline.system import flags as flag_values
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.training import run_directory

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


QUIET = experiment.SweepFlags(quiet=True)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SWEEP_WIDTH", "8")
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    return path


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep_trains_its_runs_and_again_takes_what_is_done(sweep, tmp_path, capsys):
    config = experiment.Config(sweep=str(sweep), out=str(tmp_path / "out"), runs=QUIET)
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
@pytest.mark.long
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


def test_a_sweep_whose_runs_all_diverge_is_done_and_says_so_of_each(sweep, tmp_path, monkeypatch, capsys):
    def diverge(job, words):
        directory = pathlib.Path(words[words.index("--run") + 1])
        directory.mkdir(parents=True)
        run_directory.write_figures(directory, {experiment.DIVERGED: 1, "problem": "the loss of step 1 is nan"})
        raise UserError("jobs.train ended with 1")

    monkeypatch.setattr(experiment, "run_job", diverge)
    figures = experiment.run(experiment.Config(sweep=str(sweep), out=str(tmp_path / "out"), runs=QUIET))
    assert (figures["diverged"], figures["untrained"]) == (["narrow", "wide"], [])
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.count("| diverged at 1 | - |") == 2 and "- wide diverged: the loss of step 1 is nan" in table
    assert table.split("\n\n", 1)[1] in capsys.readouterr().out
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


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


@pytest.mark.slow
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
    job = importlib.import_module(f"jobs.{sweep.job}")
    end = "--run" if sweep.job == "train" else "--out"
    for changes in sweep.changes.values() or [{}]:
        command.parse(job.Config, [*flag_values.command_line(sweep.shared | changes), end, "x"], sweep.job, "")


NAMES = {
    "exp1_1": [f"exp1_1_L{depth}_K{width}" for width in (32, 64) for depth in (2, 4, 8, 16)],
    "exp1_2": [f"exp1_2_L{depth}_K{width}" for depth in (2, 4, 8) for width in (32, 64, 128, 256)],
    "exp1_3": [f"exp1_3_L{depth}_K64-128-256" for depth in (1, 2, 3, 4)],
    "exp1_4": [f"exp1_4_L{depth}_K32" for depth in (8, 16, 32)]
    + [f"exp1_4_L{depth}_K64-128-256" for depth in (2, 4, 8)],
    "exp2": [f"exp2_L{depth}_K32-64-128" for depth in (3, 6, 9, 12)],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_courses_runs_have_their_names_and_the_networks_that_these_say(name):
    sweep = read_sweep(find_sweep(name), "small")
    assert list(sweep.changes) == NAMES[name]
    for run, changes in sweep.changes.items():
        depth, width = run.removeprefix(f"{name}_L").split("_K")
        options = dict(pair.split("=") for pair in changes["network_options"])
        assert (options["layers_per_block"], options["filters_per_layer"]) == (depth, width.replace("-", ","))


def test_a_small_scale_changes_the_flags_and_other_images_their_held_out_ones():
    full, small = read_sweep(find_sweep("exp1_1")), read_sweep(find_sweep("exp1_1"), "small")
    assert (full.shared["images"], full.shared["limit"], small.shared["images"]) == ("cifar10", 20000, "shapes")
    real = small.with_images("cifar10", "there").shared
    assert (real["images"], real["validation_split"], real["archives"]) == ("cifar10", "test", "there")
    folder = small.with_images("folder:x", None).shared
    assert folder["hold_out"] == "10%" and "validation_split" not in folder
    comparison = read_sweep(find_sweep("interpolation"), "small")
    assert comparison.with_images("cifar10", "there") == comparison


def test_an_unknown_sweep_is_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"--sweep exp9 does not exist; give a \.toml file, or one of .*exp1_1, exp1_2"):
        find_sweep("exp9")
    with pytest.raises(FlagError, match=r"has no table \[small\]"):
        read_sweep(find_sweep("shapes"), "small")


def test_one_run_is_written_as_the_courses_write_it():
    words = experiment.spell_out(
        ["-n", "test", "-K", "32", "64", "-L", "2", "-P", "3", "-H", "100", "-M", "resnet", "--scale", "small"]
    )
    config = command.parse(experiment.OneRun, words, "run-exp", "")
    assert (config.run_name, config.filters_per_layer, config.runs.scale) == ("test", (32, 64), "small")
    options = ["filters_per_layer=32,64", "layers_per_block=2", "pool_every=3", "hidden_dims=100", "shortcut=pool"]
    assert config.network == {"network": "resnet_classifier", "network_options": options}
    assert "shortcut=pool" not in command.parse(experiment.OneRun, words[:-4], "", "").network["network_options"]
    with pytest.raises(FlagError, match="--layers-per-block"):
        command.parse(experiment.OneRun, experiment.spell_out(["-n", "x", "-K", "4", "-L", "many"]), "run-exp", "")


def run_of(name, last, gradients=None):
    history = [{"loss": 3.0, "training_top1": top1, "learning_rate": 0.1} for top1 in (0.05, last)]
    return reports.Run(name, "", {"steps": 2, "parameters": 1234}, history, gradients or {}, 10)


def test_an_epoch_in_which_loss_and_accuracy_rise_together_is_said(tmp_path, capsys):
    figures = [(1.0, 0.5), (1.2, 0.5), (1.3, 0.6), (1.6, 0.7), (1.5, 0.8), (1.9, None)]
    names = ("epoch", "loss", "validation_loss", "validation_top1")
    history = [dict(zip(names, (epoch, 1.0, *pair), strict=True)) for epoch, pair in enumerate(figures, 1)]
    runs = [
        reports.Run("fits", "", {"steps": 6}, history, {}, 10),
        reports.Run("falls", "", {"steps": 2}, history[:2], {}, 10),
    ]
    reports.write_table(tmp_path, "about", runs)
    said = "rise together in fits, epoch 4: 1.300 to 1.600 nats, 60.0 to 70.0 %"
    assert said in capsys.readouterr().out
    reports.write_table(tmp_path, "about", runs[1:])
    assert "rise together" not in capsys.readouterr().out


@pytest.mark.slow
def test_what_does_not_train_is_said_with_the_gradients_that_were_measured(tmp_path, capsys):
    deep = run_of("deep", 0.11, {"before": [1e-6, 0.1, 0.5], "after": [0.0, 0.2, 0.25]})
    runs = [run_of("flat", 0.2, {"before": [0.5, 0.5], "after": [0.1, 0.2]}), deep]
    reports.write_table(tmp_path, "about", runs)
    table = (tmp_path / "table.md").read_text()
    assert (
        "deep does not train: its accuracy in training ends at 11.0 %, one answer to all has 10.0 %; before the"
        in table
    )
    assert "has 2e-06 of the norm of that by the last's (1e-06, 0.5), after it they have 0 and 0.25" in table
    assert "flat does not train" not in table and "| 1,234 |" in table and "| 2e-06 |" in table
    assert table.split("\n\n", 1)[1] in capsys.readouterr().out
    reports.draw("title", runs, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
