"""How every command reads its flags, and how it ends."""

import dataclasses
import json
import os
import signal

import pytest

from jobs import command
from tfpipeline.system.errors import FlagError, Stopped, UserError
from tfpipeline.system.signals import StopRequest


@dataclasses.dataclass(frozen=True)
class Config:
    """Adds things up."""

    out: str = command.required("where to")
    count: int = command.flag(3, "how many")
    limit: int | None = command.flag(None, "at most so many")
    views: tuple[str, ...] = command.flag((), "a view; may be repeated")
    quiet: bool = command.flag(False, "no progress")


def ends(run, capsys, *flags):
    with pytest.raises(SystemExit) as end:
        command.main(Config, run, "python -m jobs.adds --out x", [*flags])
    return end.value.code, *capsys.readouterr()


def test_flags_become_a_config():
    flags = ["--out", "x", "--limit", "5", "--views", "a", "--views", "b", "--quiet"]
    assert command.parse(Config, flags, "prog", "example") == Config("x", 3, 5, ("a", "b"), True)
    assert command.parse(Config, ["--out", "x"], "prog", "example") == Config("x")


def test_help_shows_defaults_and_the_example(capsys):
    code, out, _ = ends(run_sum, capsys, "--help")
    assert code == 0
    assert "how many (default: 3)" in out
    assert "python -m jobs.adds --out x" in out


def run_sum(config):
    return {"sum": config.count, "out": config.out, "top1": None}


def test_the_last_line_is_json(capsys):
    code, out, err = ends(run_sum, capsys, "--out", "here")
    assert (code, json.loads(out), err) == (0, {"sum": 3, "out": "here", "top1": None}, "")


def test_wrong_flag_exits_with_2(capsys):
    code, out, err = ends(run_sum, capsys, "--out", "x", "--count", "many")
    assert (code, out) == (2, "")
    assert "--count" in err and "many" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no images in x"), 1),
        (FlagError("--top-k 0: give at least 1"), 2),
        (Stopped("stopped by SIGTERM; 3 shards are saved"), 75),
        (FileNotFoundError(2, "No such file", "x.tar"), 1),
    ],
)
def test_an_expected_end_is_one_line_with_its_exit_code(capsys, error, code):
    def run(_config):
        raise error

    got, out, err = ends(run, capsys, "--out", "x")
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert str(error) in err


def test_a_bug_stays_a_traceback():
    def run(_config):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command.main(Config, run, "example", ["--out", "x"])


def test_signals_are_heard_at_the_boundary_and_a_second_one_does_no_harm():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        stop.raise_if_requested("nothing yet")
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM; step 7 is saved; run the same command again"):
            stop.raise_if_requested("step 7 is saved")
    assert signal.getsignal(signal.SIGTERM) is before
