import numpy as np
import pytest

from tfpipeline.system.errors import FlagError
from tfpipeline.training import checkpoint
from tfpipeline.training import saver as saver_module
from tfpipeline.training.saver import SaveEvery, Saver, fetch_from_mirror, parse_save_every


def save(saver, step, **options):
    saver.save(step, {"x": np.full(50, step)}, {}, {}, **options)


def steps_in(directory):
    return [checkpoint.step_of(path) for path in checkpoint.newest_first(directory)]


@pytest.mark.parametrize(
    ("text", "expected"), [("500", SaveEvery(steps=500)), ("60s", SaveEvery(seconds=60)), ("1", SaveEvery(steps=1))]
)
def test_how_often_is_steps_or_seconds(text, expected):
    assert parse_save_every(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-3", "5m", "1.5", "s"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(FlagError, match=f"--save-every {text}: write a number of steps"):
        parse_save_every(text)


def test_steps_end_where_a_save_is_due(tmp_path):
    saver = Saver(tmp_path, SaveEvery(steps=5))
    assert [saver.steps_until_due(step, 4) for step in (0, 1, 2, 4, 5)] == [4, 4, 3, 1, 4]
    assert [saver.is_due(step) for step in (4, 5, 6, 10)] == [False, True, False, True]


def test_seconds_count_from_the_last_save(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(saver_module.time, "monotonic", lambda: now[0])
    saver = Saver(tmp_path, SaveEvery(seconds=60))
    now[0] = 159.0
    assert not saver.is_due(7)
    now[0] = 160.0
    assert saver.is_due(7)
    save(saver, 7)
    assert not saver.is_due(8)


def test_the_mirror_has_what_the_directory_has(tmp_path):
    saver = Saver(tmp_path / "own", SaveEvery(), tmp_path / "mirror")
    for step in range(1, 8):
        save(saver, step, best_step=2)
    assert steps_in(tmp_path / "own") == steps_in(tmp_path / "mirror") == [7, 6, 5, 2]
    assert all(checkpoint.is_whole(path) for path in checkpoint.newest_first(tmp_path / "mirror"))


def test_a_mirror_that_fails_costs_only_the_copy(tmp_path):
    (tmp_path / "mirror").write_text("no directory")
    lines = []
    save(Saver(tmp_path / "own", SaveEvery(), tmp_path / "mirror", lines.append), 1)
    assert steps_in(tmp_path / "own") == [1]
    assert len(lines) == 1 and "no copy of step-000000001-" in lines[0]


def test_a_copy_that_reads_back_otherwise_is_no_copy_and_deletes_nothing(tmp_path, monkeypatch):
    lines = []
    saver = Saver(tmp_path / "own", SaveEvery(), tmp_path / "mirror", lines.append)
    for step in (1, 2, 3):
        save(saver, step)
    write_file = saver_module.write_file

    def lossy(path, content):
        write_file(path, content[:-1] if path.parent.name == "mirror" else content)

    monkeypatch.setattr(saver_module, "write_file", lossy)
    for step in (4, 5, 6, 7):
        save(saver, step)
    assert steps_in(tmp_path / "own") == [7, 6, 5]
    assert steps_in(tmp_path / "mirror") == [3, 2, 1]
    assert len(lines) == 4 and "does not read back as it was written" in lines[0]


def test_a_lost_directory_comes_back_from_the_mirror(tmp_path):
    saver = Saver(tmp_path / "own", SaveEvery(), tmp_path / "mirror")
    for step in (1, 2, 3):
        save(saver, step)
    newest = checkpoint.newest_first(tmp_path / "mirror")[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    lines = []
    fetch_from_mirror(tmp_path / "mirror", tmp_path / "new", lines.append)
    assert steps_in(tmp_path / "new") == [2, 1] and len(lines) == 2
    fetch_from_mirror(tmp_path / "mirror", tmp_path / "new", lines.append)
    assert len(lines) == 2


def test_a_missing_mirror_brings_nothing(tmp_path):
    fetch_from_mirror(tmp_path / "mirror", tmp_path / "own", pytest.fail)
    assert not (tmp_path / "own").exists()
