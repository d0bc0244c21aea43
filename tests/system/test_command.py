"""How every command reads its flags, and how it ends."""

import dataclasses
import json
import os
import signal

import pytest

from jobs import command
from tfpipeline.system import flags
from tfpipeline.system.errors import FlagError, Stopped, UserError
from tfpipeline.system.flags import Flags, Range, flag, part, required
from tfpipeline.system.signals import StopRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Flags):
    """What is counted."""

    count: int = flag(3, "how many", within=Range(at_least=1, below=10), experiment=True)
    limit: int | None = flag(None, "at most so many", metavar="N", within=Range(above=0))
    views: tuple[str, ...] = flag((), "a view; may be repeated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Adds things up."""

    out: str = required("where to")
    counting: Counting = part(Counting)
    quiet: bool = flag(False, "no progress")


def config(out, quiet=False, **counting):
    return Config(out=out, counting=Counting(**counting), quiet=quiet)


def ends(run, capsys, *flags):
    with pytest.raises(SystemExit) as end:
        command.main(Config, run, "python -m jobs.adds --out x", [*flags])
    return end.value.code, *capsys.readouterr()


def test_flags_become_a_config():
    flags = ["--out", "x", "--limit", "5", "--views", "a", "--views", "b", "--quiet"]
    assert command.parse(Config, flags, "prog", "example") == config("x", True, limit=5, views=("a", "b"))
    assert command.parse(Config, ["--out", "x"], "prog", "example") == config("x")


def test_help_shows_defaults_and_the_example(capsys):
    code, out, _ = ends(run_sum, capsys, "--help")
    assert code == 0
    assert "how many (default: 3)" in out
    assert "python -m jobs.adds --out x" in out


def run_sum(config):
    return {"sum": config.counting.count, "out": config.out, "top1": None}


def test_the_last_line_is_json(capsys):
    code, out, err = ends(run_sum, capsys, "--out", "here")
    assert (code, json.loads(out), err) == (0, {"sum": 3, "out": "here", "top1": None}, "")


def test_wrong_flag_exits_with_2(capsys):
    code, out, err = ends(run_sum, capsys, "--out", "x", "--count", "many")
    assert (code, out) == (2, "")
    assert "--count" in err and "many" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--out", "x", "--cuont", "3"], "adds: there is no flag --cuont; did you mean --count?"),
        (["--out", "x", "--zzz=3"], "there is no flag --zzz; python -m jobs.test_command --help lists those"),
        (["--out", "x", "--limit", "0"], "--limit is 0; it must be above 0"),
        (["--out", "x", "--count", "10"], "--count is 10; it must be at least 1 and below 10"),
        (["--count", "4"], "Missing from python -m jobs.test_command: --out"),
    ],
)
def test_wrong_flags_are_one_line_that_says_what_to_do(capsys, flags, text):
    code, out, err = ends(run_sum, capsys, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert text.removeprefix("adds: ") in err


def test_a_config_is_flat_outside_and_nested_inside():
    nested = config("x", limit=5, views=("a",))
    values = {"out": "x", "count": 3, "limit": 5, "views": ("a",), "quiet": False}
    assert flags.flat(nested) == values
    assert flags.from_flat(Config, json.loads(json.dumps(values))) == nested
    assert flags.change(nested, limit=7, quiet=True) == config("x", True, limit=7, views=("a",))
    assert flags.experiment_of(nested) == {"count": 3}
    with pytest.raises(TypeError, match="Config has no flag size"):
        flags.from_flat(Config, values | {"size": 3})


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
