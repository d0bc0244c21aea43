"""What people run: one short file per command, from flags to a frozen dataclass to `run(config)`.

What several commands share is in training, labeling and reports.
"""

import os
import signal
import sys


def _end_at_once(_number, _frame):
    """What `jobs.command.main` does, before it has begun.

    While modules are imported an exception would end in a trace, or in C++ become another one.
    """
    os.write(2, b"interrupted before there was anything to save; run the same command again\n")
    os._exit(130)


if sys.argv[0] == "-m":  # This is `python -m jobs.NAME`, and NAME is yet to be imported.
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # As of a shell's background job.
            signal.signal(number, _end_at_once)

import tfpipeline  # noqa: E402, F401 - lets old names of modules import
