"""From a command line to a config, and the one way in which every command starts and ends."""

import contextlib
import dataclasses
import difflib
import errno
import inspect
import io
import os
import pathlib
import re
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Sequence

import tyro

from jobs import config_file
from tfpipeline.system import (
    FlagError,
    Interrupts,
    Stopped,
    StopRequest,
    UserError,
    flags,
    message_of,
    temporary_directory,
    to_json,
)

_STYLE = (
    tyro.conf.OmitArgPrefixes,  # The parts of a config are groups in --help, not a part of the flags' names.
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.UseAppendAction,
    tyro.conf.DisallowNone,
)
_REGISTRY = tyro.constructors.ConstructorRegistry()
_FRAME = re.compile(r"^[╭╰│─ ]+|[╮╯│─ ]+$")
_HELP = "For full helptext"
_DEBUG = "--debug"
_LONGEST = 400  # letters of an error that nobody foresaw
_FAILURES_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)


@_REGISTRY.struct_rule
def _fields_for_tyro(info):
    """What tyro is told of a part: the help and the metavar that stand on its fields."""
    if not (isinstance(info.type, type) and issubclass(info.type, flags.Flags)):
        return None
    hints, parts, fields = typing.get_type_hints(info.type), flags.parts_of(info.type), []
    for field in dataclasses.fields(typing.cast(typing.Any, info.type)):
        hint, text, default = hints[field.name], None, tyro.MISSING
        if field.name not in parts:
            text = flags.help_of(field)
            default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
            options: dict = {"metavar": metavar} if (metavar := flags.metavar_of(field)) else {}
            if default is None or default is False:
                options["help_behavior_hint"] = ""  # That it is off by default goes without saying.
            hint = typing.Annotated[_quick_for_tyro(hint), tyro.conf.arg(**options)]
        fields.append(tyro.constructors.StructFieldSpec(field.name, hint, default, text))
    return tyro.constructors.StructConstructorSpec(info.type, tuple(fields))


def _quick_for_tyro(hint):
    """The same type as tyro knows it by itself: for others it imports typeguard, half the time that `--help` takes."""
    if isinstance(hint, types.UnionType):
        return typing.Union[typing.get_args(hint)]  # noqa: UP007 - not the same to tyro as str | None
    return tuple if hint == tuple[str, ...] else hint


Recall = Callable[[dict[str, str]], dict[str, typing.Any]]


def parse(
    config_class: type[flags.FlagsT],
    argv: Sequence[str] | None,
    prog: str,
    example: str,
    recall: Recall | None = None,
) -> flags.FlagsT:
    """The config that the flags of `argv` describe.

    Args:
        config_class: a subclass of `flags.Flags`.
        argv: the arguments; those of the process if None. `--config FILE` among them stands for the flags in a file.
        prog: what the person calls, such as "python -m jobs.train".
        example: shown by `--help`.
        recall: the flags that are given, name -> value as it is written, "" of a switch -> values of others, which
            count where these are not given.

    Raises:
        FlagError: a flag is unknown, missing or has a value that cannot be.
        UserError: the file of flags cannot be read.
        SystemExit: `--help` was asked for and is printed.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    argv = config_file.fill_in(config_class, argv)
    _check_known(config_class, argv, prog)
    if recall is not None:
        argv = config_file.add_missing(argv, recall(config_file.given_flags(argv)))
    about = inspect.getdoc(config_class)
    description = (
        f"{about}\n\nexample:\n  {example}\n\n{config_file.CONFIG} FILE takes flags from a TOML file with their names, "
        f"or from a run's config.json; those on the command line win. {_DEBUG} shows the trace of an error that nobody "
        "foresaw."
    )
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                config_class, prog=prog, description=description, args=argv, config=_STYLE, registry=_REGISTRY
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise FlagError(_one_line(printed.getvalue())) from None


def _check_known(config_class: type[flags.Flags], argv: Sequence[str], prog: str) -> None:
    """Refuses what no flag is called like, with the nearest one that there is."""
    names = (flags.flag_name(field.name) for field in flags.fields_of(config_class))
    known = ["--help", "-h", config_file.CONFIG, *names]
    for word in argv:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            rather = f"did you mean {close[0]}?" if close else f"{prog} --help lists those that there are"
            raise FlagError(f"there is no flag {word.partition('=')[0]}; {rather}")


def _one_line(printed: str) -> str:
    """What tyro printed in a box, without the box."""
    lines = [_FRAME.sub("", line) for line in printed.splitlines()]
    return " ".join(line for line in lines[1:] if line and not line.startswith(_HELP))


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines that it prints about itself at every start.

    They come from C++ before any logging is set up, so that only the file descriptor can be silenced. Set
    TF_CPP_MIN_LOG_LEVEL to see what TensorFlow logs later.

    Raises:
        ImportError: TensorFlow does not load; what it printed is in the message.
        KeyboardInterrupt: a signal came meanwhile. Raised amid C++ that is being loaded, it would become anything.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    standard_error = os.dup(2)
    with StopRequest() as stop, tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            import keras  # noqa: F401 - loads what prints a second time
            import tensorflow  # noqa: F401
        except ImportError as error:
            printed.seek(0)
            raise ImportError(f"{error}\n{printed.read().decode(errors='replace')}") from error
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
    if stop.requested:
        raise KeyboardInterrupt


def main(
    config_class: type[flags.FlagsT],
    run: Callable[[flags.FlagsT], dict],
    example: str,
    argv: Sequence[str] | None = None,
    recall: Recall | None = None,
) -> typing.NoReturn:
    """Runs a command and exits with its code.

    Args:
        config_class: a subclass of `flags.Flags`.
        run: config -> dict of figures; printed as one JSON object, the last line of standard output.
        example: a command line, shown by `--help`.
        argv: the arguments; those of the process by default. `--debug` among them shows the trace of an error that
            nobody foresaw.
        recall: as of `parse`.

    Exit codes: 0 done; 1 failed, one line on standard error; 2 wrong flags; 75 stopped with everything saved; 130
    interrupted before there was anything to save.
    """
    module = pathlib.Path(getattr(sys.modules[run.__module__], "__file__", None) or "").stem
    words = sys.argv[1:] if argv is None else list(argv)
    debug, words = _DEBUG in words, [word for word in words if word != _DEBUG]
    _prepare_streams()
    interrupts = Interrupts()
    try:
        with interrupts, temporary_directory() as lasting:
            _keep_caches_in(lasting)
            figures = run(parse(config_class, words, f"python -m jobs.{module}", example, recall))
    except Stopped as end:
        _exit_with(module, end, end.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if interrupts.came or isinstance(error, KeyboardInterrupt):
            _exit_with(module, "interrupted before there was anything to save; run the same command again", 130)
        _exit_with(module, _line_of(error, debug), getattr(error, "exit_code", 1))
    _print_last(to_json(figures))
    sys.exit(0)


def _keep_caches_in(directory: pathlib.Path) -> None:
    """Sets where libraries keep what they download, of those that would take the directory of temporary files."""
    os.environ.setdefault("TFHUB_CACHE_DIR", str(directory / "tfhub_modules"))
    try:
        home = pathlib.Path.home()
    except RuntimeError:  # Of a user without a home Keras would make a folder named ~ right here.
        home = pathlib.Path(os.devnull)
        os.environ.setdefault("KERAS_HOME", str(directory / f"keras-{os.getuid()}"))
    for variable, name in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        if not _can_write(pathlib.Path(os.environ.get(variable) or home / name)):
            # The directory that matplotlib would make it would remove after ours is gone, and fail aloud.
            os.environ.setdefault("MPLCONFIGDIR", str(pathlib.Path(tempfile.gettempdir(), "matplotlib")))


def _can_write(place: pathlib.Path) -> bool:
    """Whether a directory can be written, or be made."""
    place = place.absolute()
    there = next(path for path in (place, *place.parents) if os.access(path, os.F_OK))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _line_of(error: Exception, debug: bool) -> object:
    """What a person is told of an error; raises one that nobody foresaw where its trace is wanted."""
    if isinstance(error, UserError):
        return error
    words = next((words for words in map(os.strerror, _FAILURES_OF_DISKS) if words in str(error)), None)
    if isinstance(error, OSError) or words:
        place = re.search(rf"\S+; {words}", str(error))  # As TensorFlow's own writers say it.
        return f"{place[0] if place else error}; check the path, its permissions and the free space"
    if debug:
        raise error
    what = f"an error that nobody foresaw: {type(error).__name__}: {message_of(error, _LONGEST)}"
    return f"{what}; the same command with {_DEBUG} shows where, CONTRIBUTING.md how to report it"


def _prepare_streams() -> None:
    """Makes sure that printing cannot fail for its own sake, and that no file gets the number of a closed stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest free number.
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the rest of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A name that the terminal cannot show is no failure.


def _exit_with(module: str, message: object, code: int) -> typing.NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print(f"{module}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _print_last(line: str) -> None:
    """Prints the last line of output. The work is done: where nobody takes the line, that is no failure."""
    try:
        sys.stdout.flush()
        print(line, flush=True)
    except (OSError, ValueError):
        # At its end Python would flush once more, and fail aloud.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
