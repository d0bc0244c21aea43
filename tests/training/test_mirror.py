"""A mirror serves the run that filled it, and no other."""

import json
import shutil

import numpy as np
import pytest

from tfpipeline.system.errors import UserError
from tfpipeline.training import SaveEvery, Saver, checkpoint, run_directory
from tfpipeline.training import mirror as module
from tfpipeline.training.clock import CLOCK, Clock, seconds_in
from tfpipeline.training.mirror import Mirror

ONE, OTHER = {"learning_rate": 0.1, "options": (1, 2)}, {"learning_rate": 0.2, "options": (1, 2)}


def is_one(experiment):
    return experiment == json.loads(json.dumps(ONE))


def save(saver, step, experiment=ONE, best_step=None):
    saver.save(step, {"x": np.full(50, step)}, {"experiment": experiment}, {}, best_step)
    saver.copy(experiment)


def steps_in(directory):
    return [checkpoint.step_of(path) for path in checkpoint.newest_first(directory)]


def saver_of(tmp_path, name="own", say=pytest.fail):
    return Saver(tmp_path / name, SaveEvery(), Mirror(tmp_path / "mirror", say), say)


def test_the_mirror_has_what_the_directory_has(tmp_path):
    saver = saver_of(tmp_path)
    for step in range(1, 8):
        save(saver, step, best_step=2)
    folder = saver.mirror.folder_of(ONE)
    assert steps_in(tmp_path / "own") == steps_in(folder) == [7, 6, 5, 2]
    assert all(checkpoint.is_whole(path) for path in checkpoint.newest_first(folder))


def test_runs_that_share_a_mirror_neither_see_nor_prune_each_other(tmp_path):
    one, other = saver_of(tmp_path, "one"), saver_of(tmp_path, "other")
    for step in range(1, 6):
        save(one, step), save(other, step + 100, OTHER)
    assert steps_in(one.mirror.folder_of(ONE)) == [5, 4, 3]
    assert steps_in(other.mirror.folder_of(OTHER)) == [105, 104, 103]
    lines = []
    Mirror(tmp_path / "mirror", lines.append).fetch(tmp_path / "new" / "checkpoints", is_one)
    assert steps_in(tmp_path / "new" / "checkpoints") == [5, 4, 3] and len(lines) == 3
    assert Mirror(tmp_path / "mirror").newest(is_one).step == 5
    assert Mirror(tmp_path / "mirror").newest(lambda experiment: False) is None


def test_what_lies_in_the_mirror_itself_serves_the_run_that_it_is_of_and_stays(tmp_path):
    """Copies lay there until version 0.2, of whatever runs."""
    for experiment, step in ((ONE, 3), (OTHER, 9), (ONE, 4)):
        checkpoint.save(tmp_path / "mirror", step, {"x": np.zeros(3)}, {"experiment": experiment})
    strangers = tmp_path / "mirror" / ".thesis.partial"
    strangers.write_text("precious")
    before = sorted(path.name for path in (tmp_path / "mirror").iterdir())
    saver = saver_of(tmp_path, say=lambda line: None)
    saver.mirror.fetch(tmp_path / "own", is_one)
    assert steps_in(tmp_path / "own") == [4, 3]
    for step in range(5, 10):
        save(saver, step)
    folder = saver.mirror.folder_of(ONE).name
    assert sorted(path.name for path in (tmp_path / "mirror").iterdir()) == sorted([*before, folder])


def test_the_seconds_of_the_run_come_back_too(tmp_path):
    run = tmp_path / "run"
    saver = Saver(run / "checkpoints", SaveEvery(), Mirror(tmp_path / "mirror"))
    saver.save(1, {"x": np.zeros(3)}, {"experiment": ONE}, {})
    (run / CLOCK).write_text(json.dumps({"seconds": 77.5}))
    saver.copy(ONE, beside=(run / CLOCK,))
    shutil.rmtree(run)
    saver.mirror.fetch(run / "checkpoints", is_one)
    assert seconds_in(run) == 77.5 and Clock(run).seconds >= 77.5
    (run / CLOCK).write_text(json.dumps({"seconds": 99.0}))
    saver.mirror.fetch(run / "checkpoints", is_one)
    assert seconds_in(run) == 99


def test_a_mirror_that_fails_costs_only_the_copy(tmp_path):
    (tmp_path / "mirror").write_text("no directory")
    lines = []
    save(saver_of(tmp_path, say=lines.append), 1)
    assert steps_in(tmp_path / "own") == [1]
    assert len(lines) == 1 and "no copy of step-000000001-" in lines[0]


def test_a_copy_that_reads_back_otherwise_is_no_copy_and_deletes_nothing(tmp_path, monkeypatch):
    lines = []
    saver = saver_of(tmp_path, say=lines.append)
    for step in (1, 2, 3):
        save(saver, step)
    write_file = module.write_file
    monkeypatch.setattr(module, "write_file", lambda path, content: write_file(path, content[:-1]))
    for step in (4, 5, 6, 7):
        save(saver, step)
    assert steps_in(tmp_path / "own") == [7, 6, 5]
    assert steps_in(saver.mirror.folder_of(ONE)) == [3, 2, 1]
    assert len(lines) == 4 and "does not read back as it was written" in lines[0]


def test_a_lost_directory_comes_back_from_the_mirror(tmp_path):
    saver = saver_of(tmp_path)
    for step in (1, 2, 3):
        save(saver, step)
    newest = checkpoint.newest_first(saver.mirror.folder_of(ONE))[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    lines = []
    mirror = Mirror(tmp_path / "mirror", lines.append)
    mirror.fetch(tmp_path / "new", is_one)
    assert steps_in(tmp_path / "new") == [2, 1] and len(lines) == 2
    mirror.fetch(tmp_path / "new", is_one)
    assert len(lines) == 2


def test_a_missing_mirror_brings_nothing(tmp_path):
    Mirror(tmp_path / "mirror", pytest.fail).fetch(tmp_path / "own", is_one)
    assert not (tmp_path / "own").exists()


def test_the_copy_of_the_best_epoch_takes_the_place_of_a_damaged_one(tmp_path):
    saver = saver_of(tmp_path)
    for step in range(1, 8):
        save(saver, step, best_step=2)
    best = checkpoint.newest_first(tmp_path / "own")[-1]
    best.write_bytes(best.read_bytes()[:-1])
    lines, run = [], tmp_path / "run"
    run.mkdir()
    (tmp_path / "own").rename(run / run_directory.CHECKPOINTS)
    found = run_directory.snapshot_of_step(run, 2, lines.append, saver.copies_of_step(2, ONE))
    assert found.step == 2 and np.array_equal(found.arrays["x"], np.full(50, 2))
    assert len(lines) == 2 and lines[1] == f"taking the copy {found.path}"
    with pytest.raises(UserError, match="the checkpoint of the best epoch, step 2, is not whole"):
        run_directory.snapshot_of_step(run, 2, lines.append, saver.copies_of_step(2, OTHER))


def test_what_a_longer_experiment_began_with_is_copied_too(tmp_path):
    """Where a run goes on for more epochs its experiment is another one, and so is its folder."""
    saver = saver_of(tmp_path)
    for step in range(1, 5):
        save(saver, step, best_step=1)
    save(saver, 5, OTHER, best_step=1)
    assert steps_in(saver.mirror.folder_of(OTHER)) == [5, 4, 3, 1]


def test_a_copy_that_a_killed_process_did_not_make_is_made_by_the_next(tmp_path):
    first = saver_of(tmp_path)
    save(first, 1)
    first.save(2, {"x": np.full(50, 2)}, {"experiment": ONE}, {})  # Killed here.
    saver = saver_of(tmp_path)
    saver.copy(ONE, (tmp_path / "no-clock-yet.json",))
    assert steps_in(saver.mirror.folder_of(ONE)) == [2, 1]


def test_a_copy_that_is_taken_away_or_damaged_is_made_again(tmp_path):
    saver = saver_of(tmp_path)
    for step in (1, 2):
        save(saver, step)
    newest, older = checkpoint.newest_first(saver.mirror.folder_of(ONE))
    newest.unlink()
    older.write_bytes(b"damaged")
    saver_of(tmp_path).copy(ONE)
    assert all(map(checkpoint.is_whole, (newest, older)))
