"""Any command line is understood, or refused in one line."""

import contextlib
import importlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import command
from jobs.__main__ import list_commands
from tests.support.fuzz import fuzz
from tfpipeline.system import UserError, flags
from tfpipeline.system.flags import Flags

JOBS = {name: importlib.import_module(f"jobs.{name}") for name in list_commands()}
# What people and scripts mistype, leave empty or mix up.
NUMBERS = ("0", "-1", "1", "1_0", "0x1", "9" * 30, "1e400", "nan", "-inf", "1.5", "10%", "200%")
SIGNS = ("", " ", "-", "--", "=", ",", "[1]", "{", "~", "$HOME", "\udcff", "ü")
WORDS = ("shapes", "flip", "none", "True", "a,b", "a=b", "a=")
ODD = NUMBERS + SIGNS + WORDS


@st.composite
def command_lines(draw):
    """(name of a command, its arguments)"""
    name = draw(st.sampled_from(sorted(JOBS)))
    known = [flags.flag_name(field.name) for field in flags.fields_of(JOBS[name].Config)]
    words = []
    for _ in range(draw(st.integers(0, 5))):
        flag = draw(st.sampled_from([*known, "--config", "--no-such", "-x"]))
        value = draw(st.sampled_from(ODD) | st.text(st.characters(exclude_characters="\0"), max_size=6))
        words += draw(st.sampled_from([[flag, value], [f"{flag}={value}"], [flag], [value]]))
    return name, words


@pytest.mark.slow
@fuzz(120)
@given(command_lines())
def test_a_command_line_becomes_flags_or_one_line(drawn):
    name, words = drawn
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            found = command.parse(JOBS[name].Config, words, name, JOBS[name].EXAMPLE)
        except UserError as error:  # A FlagError is one.
            assert str(error).strip() and "Traceback" not in str(error)
        else:
            assert isinstance(found, Flags)
    assert said.getvalue() == ""
