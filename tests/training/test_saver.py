import numpy as np
import pytest

from tfpipeline.system.errors import FlagError
from tfpipeline.training import SaveEvery, Saver, checkpoint, parse_save_every
from tfpipeline.training import saver as saver_module


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


def test_a_checkpoint_that_is_damaged_or_cannot_be_read_is_named_once_and_stays(tmp_path):
    lines = []
    saver = Saver(tmp_path, SaveEvery(), say=lines.append)
    save(saver, 1), save(saver, 2)
    first, second = reversed(checkpoint.newest_first(tmp_path))
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    second.mkdir()
    for step in range(3, 8):
        save(saver, step)
    assert steps_in(tmp_path) == [7, 6, 5, 2]  # The first went once there were three newer ones; a directory cannot.
    assert lines == [
        f"passing over the damaged checkpoint {path}; nothing is deleted in its favor" for path in (second, first)
    ]
