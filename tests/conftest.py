"""What all tests share: the folder of real data, and that no test changes the process for the next one."""

import os
import pathlib
import signal
import sys
import tempfile

import pytest

# As of a process that a person starts: in a shell's background SIGINT would be ignored, in tests as in their children.
HANDLERS = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real images and teachers; without one the test is skipped."""
    folder = os.environ.get("TFPIPELINE_REAL_DATA")
    if not folder:
        pytest.skip("TFPIPELINE_REAL_DATA names no folder of real data")
    return pathlib.Path(folder)


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory):
    """Keeps what libraries and killed processes leave in a directory that pytest removes."""
    place = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", place)
        patch.setattr(tempfile, "tempdir", place)
        yield


@pytest.fixture(autouse=True)
def process_as_it_was():
    """A job that runs within a test changes what it may, as it owns its process: determinism, precision, signals."""
    _hear_signals()  # Fixtures of a whole module run jobs, too.
    yield
    _hear_signals()
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        import keras
        from tensorflow.python.framework import config

        config.disable_op_determinism()
        keras.config.set_dtype_policy("float32")


def _hear_signals():
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
