"""The labeling plan on Ray: each missing shard is a task, which Ray gives to another worker when its own dies."""

import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence

import tensorflow as tf

from labeling.labels import Span
from labeling.work.distributed import Engine, GiveUp
from labeling.work.shard_worker import Plan, Worker
from tfpipeline.system import UserError, message_of

try:
    import ray
except ImportError as error:
    raise UserError(f"--runner ray needs ray ({error}): pip install 'ray>=2.60,<3'") from error

_SECONDS_TO_ANSWER = 10


def open_engine(cores: int | None) -> Engine:
    """The engine that labels on the cluster that RAY_ADDRESS names; without it, on one that Ray finds or starts here.

    Args:
        cores: of each worker; None for those of the smallest machine that has any.

    Raises:
        UserError: nothing answers there, for which Ray itself would wait for minutes.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if "://" not in address and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"RAY_ADDRESS is {address}, where nothing answers ({error}); start Ray there") from error

    def run(plan: Plan, spans: Sequence[Span], give_up: GiveUp) -> None:
        try:
            with _connect():
                of_nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
                each = cores or min(filter(None, of_nodes), default=1)
                label = ray.remote(num_cpus=each, max_retries=-1)(_label)
                ray.get([label.remote(plan, span, each) for span in spans])
        except ray.exceptions.RayError as error:
            raise UserError(f"Ray gave up ({message_of(getattr(error, 'cause', None) or error)})") from error

    return run


@contextlib.contextmanager
def _connect() -> Iterator[None]:
    """A context in which Ray works for this process; it ends the workers after it, also those that hang."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Else a Ray of its own reports to its makers.
    os.environ.setdefault("RAY_TMPDIR", "/tmp")  # Its sockets have paths of 107 bytes at most, ours would be longer.
    heard = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # It raises plain ones, too.
        raise UserError(f"Ray does not answer, see RAY_ADDRESS ({message_of(error)})") from error
    with context:
        signal.signal(signal.SIGTERM, heard)  # Ray's own handler would end this process at once.
        yield


def _label(plan: Plan, span: Span, cores: int) -> None:
    _worker(plan, cores).label(span)


@functools.lru_cache(maxsize=1)
def _worker(plan, cores):
    """The teachers and the images, loaded once for all tasks of a worker process."""
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    return Worker(plan)
