"""Flags that are not typed twice: from a TOML file, from a run's config.json, from the run that goes on."""

import dataclasses
import subprocess
import sys

import pytest

from jobs import command, config_file, evaluate, train
from jobs.__main__ import list_commands, main
from tests.support.jobs import argv_of
from tests.support.repository import ROOT
from tfpipeline.system import FlagError, UserError, flags
from tfpipeline.training import run_directory

ARGV = [
    "--images",
    "shapes",
    "--labels",
    "truth",
    "--limit",
    "64",
    "--network",
    "mlp",
    "--network-options",
    "dropout=0.1",
]


def parse(words, recall=None, config=train.Config):
    return command.parse(config, [str(word) for word in words], "job", "", recall)


@pytest.fixture
def run(tmp_path):
    """The directory of a run that has said its flags."""
    directory = tmp_path / "run"
    directory.mkdir()
    values = flags.flat(parse([*ARGV, "--run", directory, "--seed", "7", "--save-every", "5"]))
    run_directory.write_config(directory, {"flags": values})
    return directory


def test_a_toml_file_has_the_names_of_the_flags_and_the_command_line_wins(tmp_path):
    path = tmp_path / "flags.toml"
    path.write_text(
        'images = "shapes"\nlabels = "truth"\nlearning-rate = 1e-3\nlimit = 7\nquiet = true\nbest = false\n'
        'network_options = ["hidden_dims=4", "dropout=0.5"]\nnetwork = "mlp"\n'
    )
    config = parse(["--config", path, "--run", "r", "--limit", "9"])
    assert (config.images.limit, config.optimizer.learning_rate, config.quiet, config.epochs.best) == (
        9,
        1e-3,
        True,
        False,
    )
    assert config.network.network_options == ("hidden_dims=4", "dropout=0.5")
    config = parse([f"--config={path}", "--run=r", "--network-options", "hidden_dims=8"])
    assert config.network.network_options == ("hidden_dims=8",)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("lerning_rate = 1", FlagError, "there is no flag lerning_rate; did you mean learning_rate"),
        ("[images]\nspec = 1", FlagError, "images is a table; write images = VALUE"),
        ("limit = ", UserError, "is no TOML file"),
        ('limit = "many"', FlagError, "--limit"),
        ("limit = 0", FlagError, "--limit is 0"),
        ("zzzz = 1", FlagError, "there is no flag zzzz; its names are those of the flags"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, error, message):
    path = tmp_path / "flags.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        parse(["--config", path, *ARGV[:4], "--run", "r"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml does not exist; give a TOML file"):
        parse(["--config", tmp_path / "none.toml"])
    with pytest.raises(UserError, match=r"config\.json does not exist; give the config\.json of a run"):
        parse(["--config", tmp_path / "config.json"])
    with pytest.raises(FlagError, match="is given without a file"):
        parse(["--config"])
    with pytest.raises(FlagError, match="is given more than once"):
        parse(["--config", "a.toml", "--config", "b.toml"])


def test_a_runs_config_gives_its_flags_to_another_run_and_names_it_to_what_reads_runs(run):
    config = parse(["--config", run / "config.json", "--run", "other", "--seed", "8"])
    theirs = parse([*ARGV, "--run", "other", "--seed", "8", "--save-every", "5"])
    assert config == theirs
    assert parse(["--config", run / "config.json"], config=evaluate.Config).evaluation.run == str(run)


def test_a_run_that_goes_on_knows_its_flags(run):
    config = parse(["--run", run, "--resume"], train.recall)
    assert config == dataclasses.replace(
        parse([*ARGV, "--run", run, "--seed", "7", "--save-every", "5", "--resume"]), quiet=False
    )
    assert parse(["--run", run, "--resume", "--save-every", "9s", "--quiet"], train.recall).saving.save_every == "9s"


def test_a_run_that_is_asked_for_with_its_images_is_asked_for_as_it_stands(run):
    asked = parse([*ARGV, "--run", run, "--resume"], train.recall)
    assert asked.batches.seed == 0 and asked == parse([*ARGV, "--run", run, "--resume"])


def test_a_run_that_says_nothing_is_named(tmp_path):
    with pytest.raises(FlagError, match=r"none has no config\.json to take --images and --labels from; give them"):
        parse(["--run", tmp_path / "none", "--resume"], train.recall)


def test_a_run_that_is_started_from_tells_its_network(run):
    config = parse([*ARGV[:4], "--run", "new", "--init", run], train.recall)
    assert config.network == dataclasses.replace(parse([*ARGV, "--run", "new"]).network, init=str(run))
    other = parse([*ARGV[:4], "--run", "new", "--init", run, "--network", "fast_resnet"], train.recall)
    assert (other.network.network, other.network.network_options) == ("fast_resnet", ())


def test_given_flags_are_read_however_they_are_written():
    words = ["--a-b", "1", "--c=2", "--d", "--e", "x", "--e", "y", "--f"]
    assert config_file.given_flags(words) == {"a_b": "1", "c": "2", "d": "", "e": "y", "f": ""}


def test_the_commands_are_listed_each_with_a_line(capsys):
    commands = list_commands()
    assert {"train", "evaluate", "report", "experiment"} <= commands.keys() and "command" not in commands
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[: len(commands)]] == [f"jobs.{name}" for name in commands]
    assert all(len(line.split(None, 3)) == 4 and commands[name] for line, name in zip(lines, commands, strict=False))


def test_a_command_that_is_none_is_answered_with_the_nearest():
    told = subprocess.run([sys.executable, "-m", "jobs", "trian"], cwd=ROOT, capture_output=True, text=True)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "trian is no command of python -m jobs; did you mean python -m jobs.train?" in told.stderr


@pytest.mark.parametrize(
    ("module", "words", "heavy"),
    [
        ("jobs", [], ["tensorflow", "numpy", "tyro"]),
        ("jobs.train", ["--help"], ["tensorflow", "numpy", "typeguard"]),
        ("jobs.evaluate", ["--help"], ["tensorflow", "numpy", "typeguard"]),
    ],
)
def test_what_is_asked_for_help_imports_nothing_heavy(module, words, heavy):
    code = f"import runpy, sys; sys.argv = {['x', *words]}\ntry: runpy.run_module('{module}', run_name='__main__')\n"
    code += f"except SystemExit: pass\nprint([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_run_goes_on_by_its_name_alone_to_the_same_weights(tmp_path):
    argv = argv_of(tmp_path / "cache", tmp_path / "run", epochs=1, schedule="constant")
    train.run(parse(argv, train.recall))
    longer = train.run(parse(["--run", tmp_path / "run", "--resume", "--epochs", "2", "--quiet"], train.recall))
    whole = argv_of(tmp_path / "cache", tmp_path / "whole", epochs=2, schedule="constant")
    assert train.run(parse(whole, train.recall))["weights_sha256"] == longer["weights_sha256"]
    with pytest.raises(UserError, match="seed was 0 and is 3"):
        train.run(parse(["--run", tmp_path / "run", "--resume", "--seed", "3"], train.recall))


def test_a_misspelt_config_is_answered_with_it():
    with pytest.raises(FlagError, match="there is no flag --confg; did you mean --config"):
        parse(["--confg", "x.toml"])


@pytest.mark.parametrize("name", [path.stem for path in sorted(config_file.RECIPES.glob("*.toml"))])
def test_a_recipe_is_all_that_a_training_needs_but_its_directory(name):
    config = parse(["--recipe", name, "--run", "r", "--resume"], train.recall)
    assert config.images.images == "cifar10" and config.recipe == name
    longer = parse(["--recipe", name, "--run", "r", "--epochs", "77", "--labels", "l"], train.recall)
    assert (longer.epochs.epochs, longer.labels.labels, longer.optimizer) == (77, "l", config.optimizer)


def test_of_two_recipes_the_last_counts():
    config = parse(["--recipe", "cifar10-90", "--recipe", "cifar10-93", "--run", "r"], train.recall)
    assert (config.recipe, config.epochs.epochs) == ("cifar10-93", 7)


def test_a_recipe_does_not_know_how_other_images_are_divided():
    words = ["--recipe", "cifar10-93", "--images", "folder:photos", "--labels", "l", "--run", "r"]
    config = parse(words, train.recall)
    assert config.validation.validation_split is None and config.network.network == "whitened_cnn"


def test_a_recipe_that_is_none_is_refused_with_those_that_there_are():
    with pytest.raises(FlagError, match=r"--recipe cifar: there is no such recipe; choose one of .*cifar10-93"):
        parse(["--recipe", "cifar", "--run", "r"], train.recall)
