"""A job that runs as a child ends with its parent, however that one ends, and hears the signals that it hears."""

import signal
import subprocess
import sys

import pytest

from jobs import processes
from tests.support.repository import ROOT
from tfpipeline.system.errors import Stopped

PARENT = """
import subprocess, sys
from jobs import processes
processes.command_of = lambda job, flags: [sys.executable, "-c", CHILD]
processes.run_job("none", [])
"""
CHILD = """
import os, sys, time
print(os.getpid(), file=sys.stderr, flush=True)
while True:
    time.sleep(60)
"""


def test_a_killed_parent_takes_its_child_along():
    code = PARENT.replace("CHILD", repr(CHILD))
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr.readline().strip().isdecimal()  # The child is there.
        parent.send_signal(signal.SIGKILL)
        assert parent.stderr.read() == ""  # Comes once the child has closed it, too: it sleeps for ever else.


def test_a_child_whose_parent_is_gone_already_does_not_begin(monkeypatch):
    monkeypatch.setattr(processes.os, "getppid", lambda: 1)
    monkeypatch.setattr(processes, "command_of", lambda job, flags: [sys.executable, "-c", "print('begun')"])
    child = processes.start_job("none", [], subprocess.PIPE)
    assert child.communicate()[0] == "" and child.returncode == 1


def test_a_signal_is_handed_on_and_ends_the_work_even_where_the_child_had_done_its_own(monkeypatch):
    """The child, not the parent, sends it: so it hears of it for certain, before it ends well."""
    code = """
import os, signal
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
os.kill(os.getppid(), signal.SIGTERM)
while not heard:
    signal.sigtimedwait([], 0.01)
print("{}")
"""
    monkeypatch.setattr(processes, "command_of", lambda job, flags: [sys.executable, "-c", code])
    with pytest.raises(Stopped, match="run the same command again to go on"):
        processes.run_job("none", [])
