"""Processes of their own, forked from a server that has imported TensorFlow and run no operation of it."""

import functools
import multiprocessing
import os
import pathlib
import runpy
import shlex
import signal
import sys
import tempfile

PRELOADED = [
    "tensorflow",
    "keras",
    "tfpipeline.training.trainer",
    "tfpipeline.training.evaluation",
    "models.networks",
    "models.losses",
    "labeling.teachers.saved_models",
    "labeling.work.answerer",
    "tensorflow_datasets",
    "jobs.labeling.task",
    "jobs.labeling.modes",
    "jobs.reports.evaluation",
    "jobs.reports.interpolations",
    "jobs.reports.labels",
    "jobs.reports.pages",
    "jobs.reports.run",
    "jobs.reports.sweep",
    "jobs.training.network_export",
    "jobs.training.session",
]


@functools.cache
def _server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Child:
    """A process that runs function(*arguments), its output in a file.

    Args:
        output: the file that takes standard output and standard error.
        function: an importable function.
        *arguments: for it.
    """

    def __init__(self, output: pathlib.Path, function, *arguments):
        self.output = pathlib.Path(output)
        self.process = _server().Process(target=_run, args=(str(output), function, arguments))
        self.process.start()

    def ended(self, seconds: float | None = None) -> bool:
        """Whether the process has ended, after waiting for it so long at most."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def kill(self) -> None:
        """Sends SIGKILL, and sees that this is what ended the process."""
        self.signal(signal.SIGKILL)
        self.process.join()
        assert self.exit_code == -signal.SIGKILL, self.said()

    def signal(self, number) -> None:
        """Sends a signal."""
        os.kill(self.process.pid, number)

    @property
    def exit_code(self) -> int | None:
        """As of `subprocess`: negative for a signal."""
        return self.process.exitcode

    def said(self) -> str:
        """What the process wrote."""
        return self.output.read_text() if self.output.exists() else ""


def finished(output: pathlib.Path, function, *arguments) -> Child:
    """A process that has run to its end, which must be a good one."""
    child = Child(output, function, *arguments)
    child.ended()
    assert child.exit_code == 0, child.said()
    return child


def run_command(output: pathlib.Path, command: str, place: pathlib.Path, variables: dict[str, str]) -> Child:
    """A process in which `python -m` has run a command to its end.

    Args:
        output: the file that takes standard output and standard error.
        command: the name of a module with its arguments, as for a shell.
        place: the folder in which it runs.
        variables: of the environment, beside those of this process.
    """
    child = Child(output, call_module, shlex.split(command), place, variables)
    child.ended()
    return child


def call_module(words: list[str], place: pathlib.Path, variables: dict[str, str]) -> None:
    """Runs a command in this process, which ends as the command does.

    Args:
        words: the name of a module and its arguments.
        place: the folder in which it runs.
        variables: of the environment, beside those that are set.
    """
    os.chdir(place)
    os.environ.update(variables)
    tempfile.tempdir = None  # It is where TMPDIR says now.
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _run(output, function, arguments):
    descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    function(*arguments)
    sys.stdout.flush()
