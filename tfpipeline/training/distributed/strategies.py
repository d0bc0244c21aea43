"""The tf.distribute strategies that share each batch between devices and machines."""

import contextlib
import dataclasses
import re
import signal
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfpipeline.training.distributed.cluster import Cluster
from tfpipeline.training.distributed.rendezvous import join_cluster
from tfpipeline.training.distributed.workers import ALONE, Workers

# What a collective raises when a process at its other side ends, or no longer answers.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


@dataclasses.dataclass(frozen=True)
class Team:
    """Who trains together.

    Attributes:
        workers: the processes. The chief evaluates, saves, and decides when; the others follow, and write nothing.
        strategy: in whose scope model and optimizer were made; its replicas share each batch evenly.
    """

    workers: Workers = ALONE
    strategy: tf.distribute.Strategy = dataclasses.field(default_factory=tf.distribute.get_strategy)


@contextlib.contextmanager
def connect_workers(cluster: Cluster | None, say: Callable[[str], None] = lambda line: None) -> Iterator[Workers]:
    """A context in which the workers of a cluster are connected; one that loses another says which.

    Args:
        cluster: who they are; None for a process on its own.
        say: takes a line about a visitor that is sent away.

    Raises:
        UserError: not all of them came, or one of them has ended, failed, or no longer answers.
    """
    with join_cluster(cluster, say=say) if cluster else ALONE as workers, _name_lost_workers(workers):
        yield workers


def build_strategy(name: str, workers: Workers) -> tf.distribute.Strategy:
    """The strategy of a name: one, mirrored, or multi_worker, which must come before other operations of TensorFlow.

    Args:
        name: which.
        workers: the processes that train together, all there.
    """
    if name == "multi_worker":
        return _multi_worker(workers.cluster)
    return tf.distribute.MirroredStrategy() if name == "mirrored" else tf.distribute.get_strategy()


def _multi_worker(cluster):
    heard = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.number,
        rpc_layer="grpc",
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    for number, handler in heard.items():  # TensorFlow's own handler of SIGTERM would only write a line.
        signal.signal(number, handler)
    return strategy


@contextlib.contextmanager
def _name_lost_workers(workers):
    """A context in which TensorFlow's error about a lost worker becomes a UserError."""
    try:
        yield
    except LOST as error:
        if workers.count == 1:
            raise
        numbers = {int(task) for task in re.findall(r"/job:worker/(?:replica:0/)?task:(\d+)", str(error))}
        raise workers.error_of_lost(sorted(numbers - {workers.number})) from error
