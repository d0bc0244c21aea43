"""Flags as the fields of frozen dataclasses: help, range and bearing on the experiment stand on the field, once.

Each room declares what it must be told as a part, a subclass of `Flags`. A job's config is a dataclass of parts; its
functions take the part that they need. On the command line and in config.json the parts are flat: the names of all
fields of a config differ.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator

from tfpipeline.system.errors import FlagError

_FLAG, _RANGE, _EXPERIMENT, _METAVAR = "flag", "range", "experiment", "metavar"


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may have; what is None bounds nothing.

    Attributes:
        at_least, above: the smallest value, itself allowed or not.
        at_most, below: the largest one, likewise.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"in {self.at_least}..{self.at_most}"
        low = f"at least {self.at_least}" if self.at_least is not None else f"above {self.above}"
        high = f"at most {self.at_most}" if self.at_most is not None else f"below {self.below}"
        if high == "below None":
            return low
        return high if low == "above None" else f"{low} and {high}"


def flag(
    default: typing.Any,
    help: str,
    metavar: str | None = None,
    within: Range | None = None,
    experiment: bool = False,
) -> typing.Any:
    """A field for a flag.

    Args:
        default: the default value, or `dataclasses.MISSING` for a flag that must be given.
        help: what the flag means, with its unit.
        metavar: what stands for the value in `--help`; for its type by default.
        within: the range of a number, or of each number of a tuple; None is in every range.
        experiment: whether the value decides the result of a training. Then it is part of the experiment in a
            checkpoint, under the name of the field, and going on with another value is refused.
    """
    metadata = {_FLAG: help, _METAVAR: metavar, _RANGE: within, _EXPERIMENT: experiment}
    return dataclasses.field(default=default, metadata=metadata)


def required(help: str, metavar: str | None = None, experiment: bool = False) -> typing.Any:
    """A field for a flag that must be given; the arguments are those of `flag`."""
    return flag(dataclasses.MISSING, help, metavar, experiment=experiment)


def part(kind: type["Flags"]) -> typing.Any:
    """A field for a part all of whose flags have defaults."""
    return dataclasses.field(default_factory=kind)


class Flags:
    """The base of every part and every config: its values are such as can be, or it is not made.

    Raises:
        FlagError: a number is out of its range or infinite, a text is empty that names something, or a flag that must
            be given is not; says which flag.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(typing.cast(typing.Any, self)):
            allowed, value = field.metadata.get(_RANGE), getattr(self, field.name)
            if value == "" and field.default in (dataclasses.MISSING, None):
                raise FlagError(f"{flag_name(field.name)} is empty; give a value, or leave the flag out")
            if value == () and field.default is dataclasses.MISSING:
                raise FlagError(f"{flag_name(field.name)} is missing; give it once or several times")
            for number in value if isinstance(value, tuple) else [value]:
                if isinstance(number, float) and not math.isfinite(number):
                    raise FlagError(f"{flag_name(field.name)} is {number}; it must be a finite number")
                if allowed is not None and number is not None and number not in allowed:
                    raise FlagError(f"{flag_name(field.name)} is {number}; it must be {allowed}")


FlagsT = typing.TypeVar("FlagsT", bound=Flags)


def flag_name(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def help_of(field: dataclasses.Field) -> str:
    """What `--help` says of a field."""
    return field.metadata[_FLAG]


def metavar_of(field: dataclasses.Field) -> str | None:
    """What stands for the value of a field in `--help`; None for its type."""
    return field.metadata[_METAVAR]


def parts_of(kind: type) -> dict[str, type[Flags]]:
    """The fields of a config, or of a part, that are parts: name -> type."""
    return {
        name: hint
        for name, hint in typing.get_type_hints(kind).items()
        if isinstance(hint, type) and issubclass(hint, Flags)
    }


def fields_of(kind: type) -> Iterator[dataclasses.Field]:
    """The fields of a config and of its parts that are flags."""
    parts = parts_of(kind)
    for field in dataclasses.fields(kind):
        if field.name in parts:
            yield from fields_of(parts[field.name])
        else:
            yield field


def flat(config: Flags) -> dict[str, typing.Any]:
    """The value of every flag of a config, by name, in the order of their declaration."""
    values: dict[str, typing.Any] = {}
    for field in dataclasses.fields(typing.cast(typing.Any, config)):
        value = getattr(config, field.name)
        values |= flat(value) if isinstance(value, Flags) else {field.name: value}
    return values


def from_flat(kind: type[FlagsT], values: dict[str, typing.Any]) -> FlagsT:
    """The config with these values of its flags; what is missing has its default.

    Args:
        kind: of the config.
        values: by the names of the flags; a list stands for a tuple, as in JSON.

    Raises:
        TypeError: the config has no such flag, or one that must be given is missing.
    """
    left = dict(values)
    config = _take(kind, left)
    if left:
        raise TypeError(f"{kind.__name__} has no flag {', '.join(sorted(left))}")
    return config


def _take(kind, left):
    parts = parts_of(kind)
    values = {name: _take(part, left) for name, part in parts.items()}
    for field in dataclasses.fields(kind):
        if field.name in left and field.name not in parts:
            value = left.pop(field.name)
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def change(config: FlagsT, **values: typing.Any) -> FlagsT:
    """The config with other values of some of its flags, wherever in its parts they stand."""
    return from_flat(type(config), flat(config) | values)


def told_by(config: Flags) -> dict[str, typing.Any]:
    """The values of the flags of a config that are not their defaults, by name."""
    defaults = {field.name: field.default for field in fields_of(type(config))}
    return {name: value for name, value in flat(config).items() if value != defaults[name]}


def experiment_of(config: Flags) -> dict[str, typing.Any]:
    """The values of the flags that decide the result of a training, by name."""
    decisive = {field.name for field in fields_of(type(config)) if field.metadata[_EXPERIMENT]}
    return {name: value for name, value in flat(config).items() if name in decisive}


def command_line(values: dict[str, typing.Any]) -> list[str]:
    """The words that give flags these values: true is a switch, a list repeats its flag, None and false are nothing."""
    words: list[str] = []
    for name, value in values.items():
        word = flag_name(name)
        if isinstance(value, bool):
            words += [word] if value else []
        elif value is not None:
            for part in value if isinstance(value, list | tuple) else [value]:
                words += [word, str(part)]
    return words
