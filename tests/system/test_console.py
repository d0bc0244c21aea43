"""What a long command says in a log file."""

import pytest

from tfpipeline.system import console


@pytest.mark.parametrize(("rate", "text"), [(1234.4, "1,234/s"), (10, "10/s"), (3.21, "3.2/s"), (0.041, "0.041/s")])
def test_a_rate_has_digits_that_tell_something(rate, text):
    assert console._rate(rate) == text


def test_slow_work_is_not_said_to_stand_still(capsys, monkeypatch):
    now = iter([0.0, 40.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.Console().bar("labeling", 8, "image") as advance:
        advance(2)
    assert capsys.readouterr().err == "labeling: 2 of 8 images, 0.05/s, 120 s left\n"
