"""A job run as a child process: from the same state every time, and killed where that is to be shown.

A child ends with its parent, however that one ends: on Linux the system sees to it.
"""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from tfpipeline.system import Stopped, StopRequest, UserError
from tfpipeline.training import checkpoint

SECONDS_BETWEEN_LOOKS = 0.1
_PR_SET_PDEATHSIG = 1  # Of <sys/prctl.h>.


def command_of(job: str, flags: list[str]) -> list[str]:
    """The command that runs a job, such as "train"."""
    return [sys.executable, "-m", f"jobs.{job}", *flags]


def start_job(job: str, flags: list[str], stdout: int) -> subprocess.Popen:
    """Starts a job, which is killed where this process ends before it. Nothing is lost: the same command goes on.

    Args:
        job: its name.
        flags: its command line.
        stdout: of subprocess.Popen.
    """
    parent, libc = os.getpid(), ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_parent():
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # It ended in between, unseen.
                os._exit(1)

    return subprocess.Popen(command_of(job, flags), stdout=stdout, text=True, preexec_fn=end_with_parent)


def run_job(job: str, flags: list[str]) -> dict:
    """Runs a job to its end and returns its figures. A signal to stop is handed on to it, and ends the work after it.

    Args:
        job: its name.
        flags: its command line.

    Raises:
        UserError: it failed; it has said why.
        Stopped: it was stopped, or a signal came while it ended.
    """
    child = start_job(job, flags, subprocess.PIPE)
    # From a terminal SIGINT comes to both processes; a second one does no harm.
    with StopRequest(hear=child.send_signal) as stop:
        answer = child.communicate()[0]
    if stop.requested or child.returncode == Stopped.exit_code:
        raise Stopped("stopped; everything is saved; run the same command again to go on")
    if child.returncode:
        raise UserError(
            f"jobs.{job} ended with {child.returncode}; the line above says why: run the same command again "
            "once that is mended"
        )
    return json.loads(answer.splitlines()[-1])


def kill_job(job: str, flags: list[str], checkpoints: pathlib.Path, step: int) -> int:
    """Starts a job and kills it with SIGKILL once a checkpoint of `step` or later is there; returns its step.

    Args:
        job: its name.
        flags: its command line.
        checkpoints: the directory that it saves into.
        step: the least one.

    Raises:
        UserError: it ended before.
    """
    process = start_job(job, flags, subprocess.DEVNULL)
    while process.poll() is None:
        newest = max(map(checkpoint.step_of, checkpoint.newest_first(checkpoints)), default=0)
        if newest >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return newest
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise UserError(f"jobs.{job} ended with {process.returncode} before step {step}; the line above says why")
