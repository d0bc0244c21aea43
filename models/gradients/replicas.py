"""The replicas of tf.distribute among which a batch is shared evenly, for what looks at a batch as a whole."""

from collections.abc import Sequence

import tensorflow as tf


def count_replicas() -> int:
    """How many replicas share the batch: 1 outside of a training over a strategy."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def sum_over_replicas(tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """The sum of each tensor over the replicas, the same to the bit on all; the tensors themselves where there is one.

    Args:
        tensors: what this replica has of each sum.
    """
    if count_replicas() == 1:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))


def rows_of_replica(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(first, last), the range of the whole batch's rows that this replica has.

    Args:
        rows: how many it has, a scalar; all have as many.
    """
    context = tf.distribute.get_replica_context()
    first = tf.cast(context.replica_id_in_sync_group, rows.dtype) * rows
    return first, first + rows
