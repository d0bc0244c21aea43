"""The batches of a label store for Keras's own `model.fit`: images and the teacher's probabilities for them."""

import tensorflow as tf

from tfpipeline.batches import Answers, TrainingBatches, parse_augmentation


def build_batches(
    images: tf.Tensor, answers: Answers, classes: int, batch_size: int, augment: str, seed: int
) -> tf.data.Dataset:
    """Endless batches (images uint8 (B, H, W, 3), probabilities float32 (B, K)), a new order in each epoch.

    Args:
        images: uint8 (N, H, W, 3), an array, may be memory-mapped.
        answers: the teacher's to each image, leading axes (N,), in the types of the loss.
        classes: K.
        batch_size: B, 1..N.
        augment: changes to the images, as `--augment` of jobs.train.
        seed: of the order and the changes.

    Raises:
        FlagError: there is no such change.
        UserError: there are fewer images than a batch needs.
    """
    batches = TrainingBatches(images, answers.arrays(), batch_size, seed, parse_augmentation(augment, len(images)))

    def pair(batch):
        answers = Answers(*(batch[name] for name in ("top_k", "log_probs", "log_tail")))
        return batch["images"], probabilities(answers, classes)

    return batches.from_step(0).map(pair)


def probabilities(answers: Answers, classes: int) -> tf.Tensor:
    """Whole distributions, float32 (B, K); the mass outside the top k lies evenly on the other classes

    Args:
        answers: leading axes (B,), in the types of the loss.
        classes: K.
    """
    top_k = tf.convert_to_tensor(answers.top_k)
    count, k = tf.shape(top_k)[0], top_k.shape[-1]
    rest = tf.exp(answers.log_tail) / max(classes - k, 1)
    even = tf.repeat(rest[:, tf.newaxis], classes, axis=1)
    rows = tf.repeat(tf.range(count)[:, tf.newaxis], k, axis=1)
    return tf.tensor_scatter_nd_update(even, tf.stack([rows, top_k], axis=-1), tf.exp(answers.log_probs))
