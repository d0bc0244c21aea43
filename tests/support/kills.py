"""Commands that are killed at a change of their files: processes forked from one that has imported TensorFlow."""

import ctypes
import importlib
import mmap
import os
import pathlib
import signal
import sys
import tempfile

from jobs import command, processes
from tests.support.processes import Child

CHANGES = ("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate")
_PR_SET_PDEATHSIG = 1  # Of <sys/prctl.h>.
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def run_command(job, flags, root, kill_at=None, delay=0.0):
    """Runs a command in a directory, and ends this process as it ends; says how many changes it made.

    Args:
        job: its name.
        flags: its arguments; paths are relative to `root`.
        root: the directory, whose folder "temporary" is TMPDIR.
        kill_at: the process is killed as it is about to make its so-manieth change below `root`; None lets it be.
        delay: seconds that pass between that moment and the kill, so that the change may be made, or half made.
    """
    root = pathlib.Path(root)
    os.chdir(root)
    pathlib.Path("temporary").mkdir(exist_ok=True)
    os.environ |= {"TMPDIR": str(root / "temporary"), "TFPIPELINE_CACHE": "cache"}
    tempfile.tempdir = None
    changes, here = _Changes(kill_at, delay), os.getpid()
    sys.addaudithook(changes)
    processes.start_job = lambda job, flags, stdout: _Fork(job, flags, stdout)
    try:
        _main(job, flags)
    finally:
        if os.getpid() == here:
            (root.parent / f"{root.name}.changes").write_text(str(changes.count))


def changes_of(root):
    """How many changes the last command made that ran to its end in a directory."""
    return int((root.parent / f"{root.name}.changes").read_text())


def _main(job, flags):
    module = importlib.import_module(f"jobs.{job}")
    command.main(module.Config, module.run, module.EXAMPLE, flags)


class _Changes:
    """Counts the changes that this process and its children make, and kills it at one."""

    def __init__(self, kill_at, delay):
        self.kill_at, self.delay, self.process = kill_at, delay, os.getpid()
        self._count = mmap.mmap(-1, 8)  # Shared with the children.

    @property
    def count(self):
        return int.from_bytes(self._count[:])

    def __call__(self, event, arguments):
        writes = event == "open" and arguments[2] & _WRITES
        if not (writes or event in CHANGES) or str(arguments[0]).startswith(("/dev", "/proc")):
            return
        self._count[:] = (self.count + 1).to_bytes(8)
        if self.count != self.kill_at:
            return
        if self.delay and os.getpid() == self.process:
            signal.setitimer(signal.ITIMER_REAL, self.delay)  # Ends a process as SIGKILL does: nothing of it runs on.
        else:
            os.kill(self.process, signal.SIGKILL)  # A child ends with its parent.


class _Fork:
    """A job of a job: a fork instead of a new interpreter that imports TensorFlow again. As subprocess.Popen."""

    def __init__(self, job, flags, stdout):
        self.args, self.returncode = [job, *flags], None
        reader, writer = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            os.dup2(writer, 1)
            sys.argv = [job, *flags]
            code = 1
            try:
                _main(job, flags)
            except SystemExit as end:
                code = end.code or 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.close(writer)
        self._reader = reader

    def communicate(self):
        with os.fdopen(self._reader) as file:
            answer = file.read()
        self.wait()
        return answer, None

    def wait(self):
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def poll(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)


def start(line, root, kill_at=None, delay=0.0):
    """A process that runs a command, such as "report --run run", as `run_command` does."""
    job, *flags = line.split()
    return Child(root.parent / f"{root.name}.said", run_command, job, flags, root, kill_at, delay)
