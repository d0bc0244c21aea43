"""How every command reads its flags, and how it ends."""

import builtins
import dataclasses
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile

import pytest

from jobs import command
from jobs.__main__ import list_commands
from tests.support.repository import ROOT
from tfpipeline.system import flags
from tfpipeline.system.errors import FlagError, Stopped, UserError
from tfpipeline.system.flags import Flags, Range, flag, part, required
from tfpipeline.system.signals import Interrupts, StopRequest


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeating(Flags):
    """Adds several things up."""

    things: tuple[str, ...] = required("a thing; may be repeated")


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


def test_a_repeated_flag_that_must_be_given_is_missed():
    assert command.parse(Repeating, ["--things", "a"], "prog", "example").things == ("a",)
    with pytest.raises(FlagError, match="--things is missing; give it once or several times"):
        command.parse(Repeating, [], "prog", "example")


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


def test_a_bug_is_one_line_with_the_way_to_its_trace(capsys):
    def run(_config):
        raise ZeroDivisionError("a division by zero")

    code, out, err = ends(run, capsys, "--out", "x")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "nobody foresaw: ZeroDivisionError: a division by zero; the same command with --debug shows where" in err
    with pytest.raises(ZeroDivisionError):
        command.main(Config, run, "example", ["--out", "x", "--debug"])


@pytest.mark.parametrize("name", list_commands())
def test_a_bug_in_any_command_is_one_line_and_with_debug_its_trace(name, monkeypatch, capsys):
    path = ROOT / "jobs" / f"{name}.py"
    example = importlib.import_module(f"jobs.{name}").EXAMPLE.splitlines()[0].split()[3:]

    def fails(_self):
        raise ZeroDivisionError("a division by zero")

    monkeypatch.setattr(Flags, "__post_init__", fails)
    for words, expected in ((example, SystemExit), ([*example, "--debug"], ZeroDivisionError)):
        monkeypatch.setattr(sys, "argv", [str(path), *words])
        with pytest.raises(expected) as end:
            runpy.run_path(str(path), run_name="__main__")
    assert end.traceback[-1].name == "fails"
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(
        f"{name}: an error that nobody foresaw: ZeroDivisionError: a division by zero; the same command"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'in user code:\n\n    File "a.py", line 3, in f  *\n        g()\n\n    ValueError: no such g',
            "ValueError: no such g;",
        ),
        (
            "\x1b[1mDimensions differ.\x1b[0m\n\nArguments received:\n  * x",
            "Dimensions differ.;",
        ),
        ("x" * 9000, f"{'x' * 400}...;"),
    ],
    ids=["frames", "colors", "length"],
)
def test_a_bug_of_a_library_is_told_in_short(capsys, text, said):
    def run(_config):
        raise RuntimeError(text)

    code, _, err = ends(run, capsys, "--out", "x")
    assert (code, err.count("\n")) == (1, 1)
    assert f"nobody foresaw: RuntimeError: {said}" in err


def test_what_is_no_number_is_null_in_json(capsys):
    code, out, _ = ends(
        lambda _config: {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -0.0}}, capsys, "--out", "x"
    )
    assert (code, json.loads(out)) == (0, {"a": None, "b": [None, 1.5], "c": {"d": 0.0}})


@pytest.mark.parametrize("output", ["closed", "full"])
def test_done_work_is_done_where_nobody_takes_the_last_line(output):
    code = "from tests.system.test_command import Config, run_sum; from jobs import command; "
    code += "command.main(Config, run_sum, 'e', ['--out', 'x'])"
    to = {"closed": ">&-", "full": "> /dev/full"}[output]
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" {to}', sys.executable, code], cwd=ROOT, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_name_that_the_terminal_cannot_show_is_escaped():
    code = "from tests.system.test_command import Config; from jobs import command; "
    code += "command.main(Config, lambda _: print(chr(233)) or {}, 'e', ['--out', 'x'])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout == b"\\xe9\n{}\n"


def test_signals_are_heard_at_the_boundary_and_a_second_one_does_no_harm():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        stop.raise_if_requested("nothing yet")
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM; step 7 is saved; run the same command again"):
            stop.raise_if_requested("step 7 is saved")
    assert signal.getsignal(signal.SIGTERM) is before


def interrupted(config):
    """Is interrupted amid its work, as the flag --out says, with a temporary file left behind."""
    tempfile.mkstemp()
    number = signal.SIGTERM if "SIGTERM" in config.out else signal.SIGINT
    if "C++" not in config.out:
        os.kill(os.getpid(), number)
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        raise ImportError("initialization failed") from None  # As pybind11 makes of it.


@pytest.mark.parametrize("out", ["SIGTERM", "SIGINT", "SIGTERM amid C++", "SIGINT amid C++"])
def test_an_interrupt_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, out):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, printed, err = ends(interrupted, capsys, "--out", out)
    assert (code, printed, err.count("\n")) == (130, "", 1)
    assert "interrupted before there was anything to save; run the same command again" in err
    assert list(tmp_path.iterdir()) == []
    os.kill(os.getpid(), signal.SIGTERM)  # Nothing that comes now changes the end.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_command_has_begun_is_one_line(number):
    code = "import os, sys; sys.argv[0] = '-m'; import jobs; os.kill(os.getpid(), int(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(int(number))], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted before there was anything to save; run the same command again\n"


def test_a_signal_that_is_ignored_stays_so():
    """As of a shell's background job, where SIGINT is the shell's own."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.came
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_while_tensorflow_is_imported_waits_for_its_end(monkeypatch):
    imported = builtins.__import__

    def interrupts(name, *arguments, **more):
        if name == "keras":
            os.kill(os.getpid(), signal.SIGINT)
        return imported(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", interrupts)
    with pytest.raises(KeyboardInterrupt):
        command.import_tensorflow()
    assert "tensorflow" in sys.modules


def test_a_directory_for_temporary_files_that_is_no_utf8_is_refused(tmp_path, monkeypatch, capsys):
    place = tmp_path / os.fsdecode(b"\xff")
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    code, out, err = ends(run_sum, capsys, "--out", "x")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is no UTF-8, which TensorFlow needs; set TMPDIR to another directory" in err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("words", ["No space left on device", "File too large", "Input/output error"])
def test_what_tensorflow_says_of_a_disk_is_told_with_the_file(capsys, words):
    def run(_config):
        raise RuntimeError(f"{{{{node SaveV2}}}} runs/a b/out/variables/part-0; {words} [Op:SaveV2]")

    code, _, err = ends(run, capsys, "--out", "x")
    assert code == 1
    assert err.endswith(f": b/out/variables/part-0; {words}; check the path, its permissions and the free space\n")


DRAWS = """
import os, pwd, sys
from jobs import command
from tests.system.test_command import Config

def nobody(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")

def draw(config):
    from matplotlib import font_manager
    return {"fonts": len(font_manager.fontManager.ttflist) > 0}

pwd.getpwuid = nobody
command.main(Config, draw, "", ["--out", "x"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/dev/null"])
def test_a_user_without_a_home_that_can_be_written_gets_pictures_and_nothing_else(tmp_path, home):
    variables = {name: value for name, value in os.environ.items() if name != "HOME" and "XDG" not in name}
    variables |= {"TMPDIR": str(tmp_path), "PYTHONPATH": "."} | ({} if home is None else {"HOME": home})
    done = subprocess.run([sys.executable, "-c", DRAWS], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '{"fonts": true}\n')
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []
