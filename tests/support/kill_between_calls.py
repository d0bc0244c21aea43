"""Kills a child of its own before and after every system call of an action: a plain process, run by the tests."""

import ctypes
import os
import signal
import sys

PTRACE_TRACEME, PTRACE_SYSCALL = 0, 24

ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
ptrace.restype = ctypes.c_long


def stopped_child(action) -> int:
    """The process id of a new child that waits to be traced before it acts."""
    child = os.fork()
    if child == 0:
        ptrace(PTRACE_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        sys.exit(f"the child ended with status {status} before it acted")
    return child


def killed_at(stop: int, action) -> bool:
    """Kills a child at its so-manieth stop, the entry or exit of a system call; False when it ended before that."""
    child = stopped_child(action)
    for _ in range(stop):
        if ptrace(PTRACE_SYSCALL, child, 0, 0) != 0:
            os.kill(child, signal.SIGKILL)
            sys.exit(f"ptrace is not permitted: {os.strerror(ctypes.get_errno())}")
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                sys.exit(f"the action failed with exit code {os.WEXITSTATUS(status)}")
            return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True
