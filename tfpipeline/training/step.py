"""Training steps over a tf.distribute strategy, several in one call of a compiled function."""

from collections.abc import Callable

import tensorflow as tf


def compile_steps(task, strategy: tf.distribute.Strategy) -> Callable:
    """A function (iterator, number of steps) -> their figures, float32 (steps, 1 + measures): the loss, then the means
    of the task's measures over the batch. One compiled graph for any number.

    Each replica takes its part of the batch, and what follows is what one replica would do with the whole batch. A
    layer that looks at a batch as a whole has to see to that itself, as those of models/layers do.

    Args:
        task: a tfpipeline.training.trainer.Task, its model and optimizer made in the scope of the strategy.
        strategy: whose replicas share the batches of `distribute_batches`.
    """
    replicas = strategy.num_replicas_in_sync

    # No branch in it depends on a tensor, so AutoGraph need not rewrite what it calls.
    @tf.autograph.experimental.do_not_convert
    def take_step(batch):
        with tf.GradientTape() as tape:
            logits = task.model(batch["images"], training=True)
            losses = task.loss(logits, batch)
            regularization = tf.add_n([tf.zeros((), losses.dtype), *task.model.losses])
            loss = (tf.reduce_mean(losses) + regularization) / replicas
        variables = task.model.trainable_variables
        gradients = tape.gradient(loss, variables)
        if replicas > 1:
            gradients = _clip_together(gradients, task.optimizer.global_clipnorm, replicas)
        task.optimizer.apply(gradients, variables)
        means = [tf.reduce_mean(measure(logits, batch)) / replicas for measure in task.measures.values()]
        return tf.stack([tf.cast(figure, tf.float32) for figure in (loss, *means)])

    @tf.function
    def take_steps(batches, steps):
        figures = tf.TensorArray(tf.float32, size=steps)
        for number in tf.range(steps):
            of_replicas = strategy.run(take_step, args=(next(batches),))
            figures = figures.write(number, strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None))
        return figures.stack()

    return take_steps


def distribute_batches(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.distribute.DistributedDataset:
    """The batches of this process for the replicas that it has, an even part for each, in their order.

    Args:
        batches: an endless dataset of dicts with "images"; its batch size is a multiple of the number of replicas.
        strategy: the replicas.
    """

    def of_process(context):
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        return batches.rebatch(batches.element_spec["images"].shape[0] // replicas) if replicas > 1 else batches

    return strategy.distribute_datasets_from_function(of_process)


def _clip_together(gradients, largest_norm, replicas):
    """Shares of the gradients whose sum over the replicas has at most the norm; as they are where there is none.

    The optimizer clips before it sums, which is another thing. So the sum is clipped here, and each replica gives the
    optimizer an even share of it, which is too short to be clipped again.
    """
    if largest_norm is None:
        return gradients
    sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    clipped, _ = tf.clip_by_global_norm(sums, largest_norm)
    return [gradient / replicas for gradient in clipped]
