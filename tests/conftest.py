"""What a test changes for the whole process is undone before the next one."""

import sys

import pytest


@pytest.fixture(autouse=True)
def process_as_it_was():
    """A job that runs within a test turns op determinism on and sets the precision, as it may: it owns its process."""
    yield
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        import keras
        from tensorflow.python.framework import config

        config.disable_op_determinism()
        keras.config.set_dtype_policy("float32")
