"""Flags from a frozen dataclass, and the one way in which every command starts and ends."""

import argparse
import dataclasses
import inspect
import json
import os
import pathlib
import sys
import tempfile
import types
import typing

from tfpipeline.system import Stopped, UserError


def flag(default, help, **options):
    """A dataclass field with the text that `--help` shows.

    Args:
        default: the default value, or `dataclasses.MISSING` for a flag that must be given.
        help: what the flag means, with its unit.
        **options: `choices` or `metavar`, as argparse takes them.
    """
    if default is not dataclasses.MISSING:
        help = f"{help} (default: {default})" if default not in (None, False, ()) else help
    return dataclasses.field(default=default, metadata={"help": help, **options})


def required(help, **options):
    """A field for a flag that must be given."""
    return flag(dataclasses.MISSING, help, **options)


def parser_of(config_class, prog: str, example: str) -> argparse.ArgumentParser:
    """The parser whose flags are the fields of `config_class`.

    A `bool` becomes a switch, a `tuple[T, ...]` a flag that may be repeated, `T | None` a flag of type T.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=inspect.getdoc(config_class),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        name, options = "--" + field.name.replace("_", "-"), dict(field.metadata)
        kind, repeated = _flag_type(hints[field.name])
        if kind is bool:
            parser.add_argument(name, action="store_true", **options)
            continue
        if repeated:
            options["action"] = "append"
        if field.default is dataclasses.MISSING:
            options["required"] = True
        else:
            options["default"] = None if repeated else field.default
        parser.add_argument(name, type=kind, **{"metavar": "..." if "choices" not in options else None, **options})
    return parser


def _flag_type(hint):
    """(type of one value, whether the flag may be repeated)."""
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType), False
    return hint, False


def parse(config_class, argv, prog: str, example: str):
    """The config that the flags of `argv` describe; exits with 2 and a line on wrong ones."""
    arguments = vars(parser_of(config_class, prog, example).parse_args(argv))
    hints = typing.get_type_hints(config_class)
    for name, value in arguments.items():
        if _flag_type(hints[name])[1]:
            arguments[name] = tuple(value or ())
    return config_class(**arguments)


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines that it prints about itself at every start.

    They come from C++ before any logging is set up, so that only the file descriptor can be silenced. Set
    TF_CPP_MIN_LOG_LEVEL to see what TensorFlow logs later.

    Raises:
        ImportError: TensorFlow does not load; what it printed is in the message.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as printed:
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


def main(config_class, run, example: str, argv=None) -> typing.NoReturn:
    """Runs a command and exits with its code.

    Args:
        config_class: a frozen dataclass whose fields are made by `flag` and `required`.
        run: config -> dict of figures; printed as one JSON object, the last line of standard output.
        example: a command line, shown by `--help`.
        argv: the arguments; those of the process by default.

    Exit codes: 0 done; 1 failed, one line on standard error; 2 wrong flags; 75 stopped with everything saved.
    """
    module = pathlib.Path(sys.modules[run.__module__].__file__).stem
    config = parse(config_class, argv, f"python -m jobs.{module}", example)
    try:
        figures = run(config)
    except (UserError, Stopped) as end:
        _exit_with(module, end, end.exit_code)
    except KeyboardInterrupt:
        _exit_with(module, "interrupted before there was anything to save; run the same command again", 130)
    except OSError as error:
        _exit_with(module, f"{error}; check the path, its permissions and the free space", 1)
    sys.stdout.flush()
    print(json.dumps(figures, default=str), flush=True)
    sys.exit(0)


def _exit_with(module, message, code):
    sys.stdout.flush()
    print(f"{module}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    sys.exit(code)
