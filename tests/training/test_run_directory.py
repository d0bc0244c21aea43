"""What lies in a run directory beside the checkpoints: whole, or named; and nothing of a killed process stays."""

import json
import os
import re

import numpy as np
import pytest

from tests.support.disk import small_disk
from tfpipeline.system.errors import UserError
from tfpipeline.training import checkpoint, run_directory
from tfpipeline.training.clock import CLOCK

CONFIG = {"flags": {"learning_rate": 0.002, "run": "x"}, "experiment": {"options": [1, 2]}, "class_names": ["ä", "b"]}
HISTORY = [
    {"epoch": 1, "step": 5, "loss": 0.1 + 0.2, "top1": None},
    {"epoch": 2, "step": 10, "loss": 1e-300, "top1": 0.5},
    {"epoch": 3, "step": 15, "loss": float("nan"), "top1": 1.0},
]


@pytest.fixture
def run(tmp_path):
    run_directory.write_config(tmp_path, CONFIG)
    run_directory.write_history(tmp_path, HISTORY)
    checkpoint.save(tmp_path / run_directory.CHECKPOINTS, 15, {"x": np.zeros(2)}, {}, {"history": HISTORY})
    return tmp_path


def test_what_was_written_is_read(run):
    assert run_directory.read_config(run) == CONFIG
    assert repr(run_directory.read_history(run)) == repr(
        [{name: None if value is None else float(value) for name, value in row.items()} for row in HISTORY]
    )


@pytest.mark.parametrize("name", [run_directory.CONFIG, run_directory.HISTORY])
def test_every_flipped_bit_is_noticed_or_means_nothing(run, name):
    path = run / name
    content = path.read_bytes()
    read = {run_directory.CONFIG: run_directory.read_config, run_directory.HISTORY: run_directory.read_history}[name]
    whole, refused = repr(read(run)), 0
    random = np.random.default_rng(0)
    places = random.choice(len(content) * 8, 400, replace=False)
    for place in map(int, places):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = repr(read(run))
        except UserError as error:
            assert str(error).startswith(f"{path} is damaged (") and "writes it again" in str(error)
            refused += 1
        else:
            means_nothing = found == whole  # Such as a space that became another one.
            no_hash = name == run_directory.CONFIG and "sha256" not in path.read_text()
            assert means_nothing or no_hash, (place, damaged)
    assert refused > 300


def test_files_of_runs_that_began_before_are_read(run):
    """They have no hash, and perhaps no checkpoints any more."""
    (run / run_directory.CONFIG).write_text(json.dumps(CONFIG))
    assert run_directory.read_config(run) == CONFIG
    for path in checkpoint.newest_first(run / run_directory.CHECKPOINTS):
        path.unlink()
    assert len(run_directory.read_history(run)) == 3


def test_a_history_behind_or_ahead_of_the_checkpoint_is_compared_where_both_speak(run):
    run_directory.write_history(run, HISTORY[:2])
    assert len(run_directory.read_history(run)) == 2
    run_directory.write_history(run, [*HISTORY, {"epoch": 4, "step": 20, "loss": 0.1, "top1": 0.3}])
    assert len(run_directory.read_history(run)) == 4
    run_directory.write_history(run, [HISTORY[0], {**HISTORY[1], "top1": 0.25}])
    with pytest.raises(UserError, match="epoch 2 is another one than in the checkpoint"):
        run_directory.read_history(run)


def test_what_killed_processes_left_goes_and_strangers_files_stay(tmp_path):
    own = [run_directory.CONFIG, run_directory.HISTORY, run_directory.FIGURES, run_directory.MODEL, CLOCK]
    for name in own:
        (tmp_path / f".{name}.01234567.partial").touch()
    strangers = {".thesis.doc.01234567.partial", ".config.json.partial", ".x.partial"}
    for name in strangers:
        (tmp_path / name).touch()
    with run_directory.lock_run(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {*strangers, run_directory.LOCK}


@pytest.mark.parametrize("kind", ["link", "mount point", "directory"])
def test_the_reason_of_a_refusal_is_not_hidden_by_the_directory(tmp_path, kind):
    place = tmp_path / "run"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")

    def refuse():
        with run_directory.lock_run(place):
            raise UserError("the reason")

    if kind == "mount point":
        place.mkdir()
        with small_disk(place, "64k"), pytest.raises(UserError, match="the reason"):
            refuse()
        return
    with pytest.raises(UserError, match="the reason"):
        refuse()
    assert os.path.lexists(place) == (kind == "link")
    assert not list(tmp_path.glob("*/*"))


def test_without_locks_a_run_goes_on(tmp_path, monkeypatch, capsys):
    from tfpipeline.system import locks

    def refuse(_file, _operation):
        raise OSError(locks.NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_said", set())
    with run_directory.lock_run(tmp_path / "run"):
        run_directory.write_config(tmp_path / "run", CONFIG)
    assert re.fullmatch(r"files cannot be locked here \(.*\): let only one command .*\n", capsys.readouterr().err)
