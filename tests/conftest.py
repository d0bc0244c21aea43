"""What all tests share: the folder of real data, and that no test changes the process for the next one."""

import os
import pathlib
import sys

import pytest


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real images and teachers; without one the test is skipped."""
    folder = os.environ.get("TFPIPELINE_REAL_DATA")
    if not folder:
        pytest.skip("TFPIPELINE_REAL_DATA names no folder of real data")
    return pathlib.Path(folder)


@pytest.fixture(autouse=True)
def process_as_it_was():
    """A job that runs within a test turns op determinism on and sets the precision, as it may: it owns its process."""
    yield
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        import keras
        from tensorflow.python.framework import config

        config.disable_op_determinism()
        keras.config.set_dtype_policy("float32")
