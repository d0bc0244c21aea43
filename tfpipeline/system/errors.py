"""The ways in which a command ends early, each with its exit code."""


class UserError(Exception):
    """One line for the person at the terminal: what is wrong, with the value, and what to do next."""

    exit_code = 1


class FlagError(UserError):
    """A flag has a value that cannot be used, or does not go with another flag."""

    exit_code = 2


class Stopped(Exception):
    """SIGTERM or SIGINT asked for the end and everything is saved: the same command goes on from there."""

    exit_code = 75
