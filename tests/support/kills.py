"""Commands that are ended at a change of their files: processes forked from one that has imported TensorFlow."""

import ctypes
import dataclasses
import mmap
import os
import signal
import sys
import traceback

from jobs import processes
from tests.support.processes import Child, call_module

CHANGES = ("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate")
_PR_SET_PDEATHSIG = 1  # Of <sys/prctl.h>.
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclasses.dataclass(frozen=True)
class End:
    """How a command is ended.

    Attributes:
        change: as it is about to make its so-manieth change of files; None lets it be.
        delay: seconds that pass between that moment and the end, so that the change may be made, or half made.
        signal: the signal that the process gets.
    """

    change: int | None = None
    delay: float = 0.0
    signal: int = signal.SIGKILL


def call_and_end(words, root, end):
    """Runs a command in a directory, and ends this process as it ends; says how many changes it made.

    Args:
        words: the name of its module, and its arguments; paths are relative to `root`.
        root: the directory, whose folder "temporary" is TMPDIR.
        end: how the process is ended.
    """
    (root / "temporary").mkdir(exist_ok=True)
    changes, here = _Changes(end), os.getpid()
    sys.addaudithook(changes)
    processes.start_job = lambda job, flags, stdout: _Fork(job, flags, stdout)
    try:
        call_module(words, root, {"TMPDIR": str(root / "temporary"), "TFPIPELINE_CACHE": "cache"})
    finally:
        if os.getpid() == here:
            (root.parent / f"{root.name}.changes").write_text(str(changes.count))


def changes_of(root):
    """How many changes the last command made that ran to its end in a directory."""
    return int((root.parent / f"{root.name}.changes").read_text())


class _Changes:
    """Counts the changes that this process and its children make, and ends it at one."""

    def __init__(self, end):
        self.end, self.process = end, os.getpid()
        if end.signal != signal.SIGKILL:  # Here, as any thread may make the change.
            signal.signal(signal.SIGALRM, lambda *_: os.kill(self.process, end.signal))
        self._count = mmap.mmap(-1, 8)  # Shared with the children.

    @property
    def count(self):
        return int.from_bytes(self._count[:])

    def __call__(self, event, arguments):
        writes = event == "open" and arguments[2] & _WRITES
        if not (writes or event in CHANGES) or str(arguments[0]).startswith(("/dev", "/proc")):
            return
        self._count[:] = (self.count + 1).to_bytes(8)
        if self.count != self.end.change:
            return
        if self.end.delay and os.getpid() == self.process:
            # Ends a process as SIGKILL does where nobody hears it: nothing of it runs on.
            signal.setitimer(signal.ITIMER_REAL, self.end.delay)
        else:
            os.kill(self.process, self.end.signal)  # A child ends with its parent.


class _Fork:
    """A job of a job: a fork instead of a new interpreter that imports TensorFlow again. As subprocess.Popen."""

    def __init__(self, job, flags, stdout):
        self.args, self.returncode = [job, *flags], None
        reader, writer = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            self._of_parent, sys.stdout = sys.stdout, os.fdopen(writer, "w")
            code = 1
            try:
                call_module([f"jobs.{job}", *flags], ".", {})
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                traceback.print_exc()  # `os._exit` hides it else.
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


def start(line, root, end=End()):
    """A process that runs a command, such as "report --run run", as `call_and_end` does."""
    words = f"jobs.{line}".split()
    return Child(root.parent / f"{root.name}.said", call_and_end, words, root, end)
