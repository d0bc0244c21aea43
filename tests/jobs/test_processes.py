"""A job that runs as a child ends with its parent, however that one ends."""

import signal
import subprocess
import sys

from tests.support.repository import ROOT

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
    from jobs import processes

    monkeypatch.setattr(processes.os, "getppid", lambda: 1)
    monkeypatch.setattr(processes, "command_of", lambda job, flags: [sys.executable, "-c", "print('begun')"])
    child = processes.start_job("none", [], subprocess.PIPE)
    assert child.communicate()[0] == "" and child.returncode == 1
