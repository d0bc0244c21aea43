"""Labeling real images with a teacher, from reading to written, beside a plain loop over the same images.

    python -m benchmarks.labeling --images archive:thousand_64x64.tar --truth thousand_truth.csv \
        --more-images archive:train_64x64.tar --teacher mobilenet_v2_100_224

Without flags the files are those of these names in the folder $TFPIPELINE_REAL_DATA.

The plain loop is what one writes in a minute: batches of 64, tf.image.resize to the teacher's size, model.predict of a
Keras model around the SavedModel. Labeling is what jobs.label_imagenet64 does, into an empty directory, in float32 and
in bfloat16, by the runtime and batch size that prove fastest. The teacher's own time is that of the same network in the
same runtime, on images that are enlarged and in memory already. All take turns, each on a thousand images, so that a
busy moment of the machine meets all; nobody's first batches count; ratios are medians over the turns. The first turn is
on --images, whose truth tells the accuracies, the others on --more-images.

Memory is the peak of a whole command's anonymous memory (RssAnon: without the pages of the memory-mapped images, which
the system takes back when it needs them), at 16,000 and at 160,000 images, repeated ones. A stub of 1,000 classes
stands in for the teacher there: nothing that grows with the number of images is the teacher's.

What to expect on 2 cores with MobileNetV2 at 224: float32 2 times the plain loop's rate or more, bfloat16 3.5 times.

The last line is one JSON object: float32_ratio and bfloat16_ratio to the plain loop's rate; float32_same_top1, share of
images with the plain loop's first answer, bfloat16_same_top1 with float32's; bfloat16_top1_change and
bfloat16_top5_change against float32's accuracy, as shares of --images; overhead, the time of float32 labeling over the
teacher's own, less 1; memory_growth_mb.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import random
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmarks.timing import watch
from labeling.enlarging import Expert, interpolation
from labeling.labels import create_labels, quality
from labeling.teachers import conventions, load_teacher
from labeling.work import Answerer, labeler, runtime_choice, runtimes
from tfpipeline.images import IDENTITY, ImageFlags, open_images
from tfpipeline.system import Console, StopRequest
from tfpipeline.training import TOP, share_in_top

PLAIN_BATCH, METHOD, TOP_K, SHARD = 64, "bilinear", 32, 256
TURNS, IMAGES_PER_TURN = 5, 1000
FEW, MANY, CLASSES = 16_000, 160_000, 1000


def parse() -> argparse.Namespace:
    """The flags; by default they name files in $TFPIPELINE_REAL_DATA."""
    folder = os.environ.get("TFPIPELINE_REAL_DATA")
    files = {
        "images": f"archive:{folder}/imagenet64/thousand_64x64.tar",
        "truth": f"{folder}/imagenet64/thousand_truth.csv",
        "more_images": f"archive:{folder}/imagenet64/train_64x64.tar",
        "teacher": f"{folder}/teachers/mobilenet_v2_100_224",
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labeling")
    for name, default in files.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default if folder else None, required=not folder)
    return parser.parse_args()


def plain_loop(teacher):
    """images -> logits or probabilities, as one writes it in a minute."""
    model, size = teacher.network.owner, teacher.size
    if not hasattr(model, "predict"):
        layer = keras.layers.TFSMLayer(teacher.spec, call_endpoint="serving_default")
        model = keras.Sequential([keras.Input((size, size, 3)), layer])

    def predict(images):
        parts = []
        for start in range(0, len(images), PLAIN_BATCH):
            pixels = tf.image.resize(images[start : start + PLAIN_BATCH], (size, size), METHOD)
            parts += tf.nest.flatten(model.predict(conventions.to_range(pixels, teacher.conventions.range), verbose=0))
        return np.concatenate(parts)[:, int(teacher.conventions.background) :]

    return predict


def fastest_answerer(expert, images, precision):
    """The answerer of a precision by the runtime and batch size that prove fastest here."""
    ways = runtime_choice.ways(None, None, precision, Console())
    base = Answerer([expert], [(IDENTITY,)], TOP_K, images.shape[1:], ways[0])
    measured = runtime_choice.rates(base, ways, images, Console())
    rates = ", ".join(f"{way.runtime} by {way.batch_size} {rate:.0f}" for way, rate in measured.items())
    print(f"{precision}: {rates} images/s", flush=True)
    best = runtime_choice.best(measured, ways[0])
    print(f"{precision}: {best.runtime}, {best.batch_size} images at a time", flush=True)
    return base.by(best)


def labeling(answer, spec, directory: pathlib.Path):
    """images -> LabelStore: labels them into a new directory."""
    numbers = itertools.count()

    def label(images):
        precision = answer.way.precision
        of_images = dataclasses.replace(spec, count=len(images), precision=precision)
        store = create_labels(directory / f"{precision}-{next(numbers)}", of_images)
        labeler.label(images, store, answer, labeler.Calls(answer.images_per_call, answer.parallel), StopRequest())
        return store

    return label


def teacher_alone(teacher, answer):
    """Enlarged images -> nothing: the network itself, run as `answer` runs it."""
    signature = tf.TensorSpec((None, teacher.size, teacher.size, 3), tf.float32)
    frozen = convert_variables_to_constants_v2(tf.function(teacher.log_probs).get_concrete_function(signature))
    way = answer.way
    program, size = runtimes.PROGRAMS[way.runtime](frozen, way.batch_size, way.precision), way.batch_size

    def run(pixels):
        whole = range(0, len(pixels) - len(pixels) % size, size)
        with concurrent.futures.ThreadPoolExecutor(answer.parallel) as threads:
            collections.deque(threads.map(lambda start: program(pixels[start : start + size]), whole), maxlen=0)

    return run


def take_turns(contenders, parts, prepare):
    """({name: seconds of each turn}, {name: what it returned in each turn}), every turn in another order."""
    names, seconds, found = list(contenders), collections.defaultdict(list), collections.defaultdict(list)
    for turn, part in enumerate(parts):
        random.Random(turn).shuffle(names)
        inputs = {name: prepare.get(name, np.asarray)(part) for name in names}
        for name in names:
            if turn == 0:
                contenders[name](inputs[name][: 2 * PLAIN_BATCH])
            start = time.perf_counter()
            found[name].append(contenders[name](inputs[name]))
            seconds[name].append(time.perf_counter() - start)
        rates = ", ".join(f"{name} {len(part) / seconds[name][-1]:.1f}" for name in contenders)
        print(f"images/s in turn {turn + 1} of {len(parts)}: {rates}", flush=True)
    return seconds, found


def measure_speed(flags, directory: pathlib.Path) -> dict:
    """The figures of rates, agreement, accuracy and overhead."""
    store = open_images(ImageFlags(images=flags.images, truth=flags.truth, limit=IMAGES_PER_TURN))
    more = open_images(ImageFlags(images=flags.more_images, limit=(TURNS - 1) * IMAGES_PER_TURN))
    parts = [store.images, *(more.images[i : i + IMAGES_PER_TURN] for i in range(0, len(more), IMAGES_PER_TURN))]
    teacher = load_teacher(flags.teacher)
    expert = Expert(teacher, METHOD)
    spec = labeler.spec_of(store, [expert], ("identity",), TOP_K, SHARD, "float32")
    precisions = runtimes.PRECISIONS
    answerers = {precision: fastest_answerer(expert, store.images, precision) for precision in precisions}
    contenders = {
        "plain": plain_loop(teacher),
        **{precision: labeling(answer, spec, directory) for precision, answer in answerers.items()},
        "alone": teacher_alone(teacher, answerers["float32"]),
    }
    enlarge = {"alone": lambda part: interpolation.enlarge(part, teacher.size, METHOD).numpy()}
    seconds, found = take_turns(contenders, parts, enlarge)

    plain_top = np.concatenate(found["plain"]).argmax(1)
    top = {name: np.concatenate([labels.read_all().view(0).top_k for labels in found[name]]) for name in precisions}
    truth = quality.known_truth(spec, store)
    accuracy = {
        (name, k): share_in_top(top[name][: len(store)], truth, k)
        for name, k in itertools.product(precisions, (1, TOP))
    }
    for (name, k), share in accuracy.items():
        print(f"{name}: top-{k} {share:.1%} on {flags.images}")

    def ratio(one, other):
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    return {
        "float32_ratio": round(ratio("plain", "float32"), 3),
        "float32_same_top1": float(np.mean(top["float32"][:, 0] == plain_top)),
        "bfloat16_ratio": round(ratio("plain", "bfloat16"), 3),
        "bfloat16_same_top1": float(np.mean(top["bfloat16"][:, 0] == top["float32"][:, 0])),
        "bfloat16_top1_change": round(accuracy["bfloat16", 1] - accuracy["float32", 1], 4),
        "bfloat16_top5_change": round(accuracy["bfloat16", TOP] - accuracy["float32", TOP], 4),
        "overhead": round(ratio("float32", "alone") - 1, 3),
    }


class Stub(tf.Module):
    """A classifier of mean colors."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((3, CLASSES), (1, 0)))

    @tf.function(input_signature=[tf.TensorSpec((None, 64, 64, 3), tf.float32)])
    def __call__(self, images):
        """Logits (B, CLASSES)."""
        return 4.0 * tf.reduce_mean(images, (1, 2)) @ self.kernel


def measure_memory(flags, directory: pathlib.Path) -> dict:
    """The figure of memory."""
    tf.saved_model.save(Stub(), str(directory / "stub"))
    pixels = open_images(ImageFlags(images=flags.more_images)).images
    repeated = pixels[np.arange(FEW) % len(pixels)].transpose(0, 3, 1, 2).reshape(FEW, -1)
    folder = directory / "repeated"
    folder.mkdir()
    first = folder / "train_data_batch_1.npz"
    np.savez(first, data=repeated, labels=np.ones(FEW, np.int64))
    for number in range(2, MANY // FEW + 1):
        (folder / f"train_data_batch_{number}.npz").hardlink_to(first)
    common = ["--teacher", directory / "stub", "--cache", directory / "cache", "--no-gate"]
    common += ["--runtime", runtimes.available_runtimes()[-1], "--batch-size", PLAIN_BATCH]
    peaks = {}
    for count in (FEW, MANY):
        images = ["--images", f"npz:{folder}", "--limit", count]
        labels = directory / f"labels-{count}"
        peaks[count] = watch("label_imagenet64", [*images, *common, "--out", labels, "--quiet"]).megabytes
        print(f"{count:,} images: {peaks[count]:,.0f} MB at the peak", flush=True)
    return {"memory_growth_mb": round(peaks[MANY] - peaks[FEW], 1)}


def main() -> None:
    """Measures and prints."""
    flags = parse()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure_speed(flags, pathlib.Path(directory))
        figures |= measure_memory(flags, pathlib.Path(directory))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
