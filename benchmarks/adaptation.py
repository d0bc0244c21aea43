"""What adapting labels without truth changes, on real images, where it helps and where there is nothing to mend.

    python -m benchmarks.adaptation --real-data DIR --answers answers

DIR has the images and teachers of $TFPIPELINE_REAL_DATA, which is its default. The teachers' answers are kept in
--answers, so that a second run takes a minute: the first one asks MobileNetV2 and MobileNetV1 0.75 at 224 and at 160
pixels about 6,000 images and their mirror images, enlarged bilinearly, and MobileNetV2 about 2,400 more. With --cifar10
ARCHIVE (cifar-10-binary.tar.gz) ResNet-8 answers CIFAR-10's test images, too.

Rows: the thousand (an image of each class) and valid (200 of the 1,000 classes), by one teacher and by both with mirror
images, at one size and at two; with the 200 classes told; few images; draws of few classes, of one class among others,
of a long tail, of neighboring classes; and situations without shift: a teacher of 200 classes that was made of the very
kind of images that it answers (a softmax regression on both MobileNets' answers to 3,500 images of valid, asked about
the other 1,500), whole, over 100 of its classes, of few images and of few classes; the bundled teacher on shapes.

The truth is for scoring and for drawing, never for adapting. Columns: top-1 (and top-5) as answered, with --adapt auto,
with --adapt background, with --adapt prior; what auto does, B for the background and P for the prior; and what its
guards saw: evenness, spread and spread_ratio of the background, gain, purity_ratio and divergence of the prior.

What to expect: no row of auto more than half a point below as answered, but for one of 134 images, which loses one of
them. A row is printed as JSON when it is done. The last line is one JSON object: rows, with the figures of each; worst,
the smallest change of top-1 by auto; and cost, of adapting to the sample of valid beyond the answers, which labeling
reuses: CPU seconds, bytes at the peak, and bytes of the vectors and figures that stay in the spec.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time
import tracemalloc

import numpy as np

from labeling.enlarging import Expert
from labeling.labels import Span, adaptation
from labeling.teachers import load_teacher
from labeling.work import Answerer, labeler, runtimes
from tfpipeline.images import ImageFlags, ImageStore, open_images, parse_view
from tfpipeline.system import Console, print_table
from tfpipeline.training import TOP, share_in_top

NETWORKS = ("mobilenet_v2_100_224", "mobilenet_v1_0.75_224.keras")
BATCH = 16
SMALLER = 160  # pixels, the other size of both
CLASSES, PER_CLASS, NEIGHBORS = 10, 80, 20
OF_HEAD, STEPS, RATE, PENALTY = 3500, 300, 0.01, 1e-3
METHODS = ("auto", "background", "prior")


class Answers:
    """The teachers' answers to images, asked for once.

    Args:
        directory: where they are kept.
        real_data: the folder of images and teachers.
    """

    def __init__(self, directory: pathlib.Path, real_data: pathlib.Path):
        self.directory, self.real_data = directory, real_data
        directory.mkdir(parents=True, exist_ok=True)

    def images(self, name: str) -> ImageStore:
        """The images of an archive of that name, with their truth."""
        folder = self.real_data / "imagenet64"
        flags = ImageFlags(
            images=f"archive:{folder / name}_64x64.tar",
            split="valid" if name == "valid" else "train",
            truth=str(folder / f"{name}_truth.csv"),
        )
        return open_images(flags, Console())

    def of(self, name: str, network: str, images: np.ndarray, size: int | None = None) -> np.ndarray:
        """Log-probabilities of images and of their mirror images, float32 (N, 2, classes).

        Args:
            name: of the images, for the file.
            network: of NETWORKS, another file of teachers, or "bundled".
            images: uint8 (N, H, W, 3).
            size: that the teacher is asked at, in pixels; None for its own.
        """
        path = self.directory / f"{name}-{network}{f'-{size}' if size else ''}.npy"
        if not path.exists():
            spec = network if network == "bundled" else str(self.real_data / "teachers" / network)
            way = runtimes.Way(runtimes.available_runtimes()[-1], BATCH)
            views = [[parse_view("identity")], [parse_view("flip")]]
            answer = Answerer([Expert(load_teacher(spec, size=size), "bilinear")], views, 1, images.shape[1:], way)
            calls = labeler.Calls(answer.images_per_call, answer.parallel)
            parts, total = [], len(images)
            with Console().bar(path.stem, total, "image") as advance:
                for _, part in labeler.answer_batches(images, [Span(0, total)], answer.log_probs, calls):
                    parts.append(part)
                    advance(len(part))
            np.save(path, np.concatenate(parts))
        return np.load(path)


def combine(*answers: np.ndarray) -> np.ndarray:
    """The geometric mean of answers, float32 (N, classes), as labeling takes it."""
    return adaptation.log_softmax(np.mean(answers, axis=0, dtype=np.float64)).astype(np.float32)


def scores(log_p: np.ndarray, truth: np.ndarray, subset: tuple[int, ...] = ()) -> dict:
    """The figures of a row, by name; log_p (N, classes), truth counted as the subset does."""

    def top(answers):
        top_k = np.argsort(-answers, axis=1, kind="stable")[:, :TOP]
        return [round(float(share_in_top(top_k, truth, k)), 4) for k in (1, TOP)]

    plain = log_p[:, list(subset)] if subset else log_p
    figures: dict = {"images": len(log_p), "classes": plain.shape[1], "plain": top(plain)}
    for method in METHODS:
        found = adaptation.fit(log_p, method, subset)
        figures[method] = top(found.apply(log_p, subset))
        if method == "auto":
            figures["does"] = "B" * bool(found.background) + "P" * bool(found.log_prior)
            figures["found"] = found.found
            figures["change"] = round(figures["auto"][0] - figures["plain"][0], 4)
    print(json.dumps(figures), flush=True)
    return figures


def imagenet_rows(answers: Answers) -> dict[str, dict]:
    """Two teachers of a thousand classes on enlarged images of 64 pixels."""
    rng = np.random.default_rng(0)
    occurring = tuple(np.unique(answers.images("valid").truth).tolist())
    rows = drawn_rows(answers, rng.permutation(occurring), occurring)
    for name in ("thousand", "valid"):
        images, truth = answers.images(name).images, answers.images(name).truth
        first, second = (answers.of(name, network, images) for network in NETWORKS)
        alone, both = combine(first[:, 0]), combine(first[:, 0], first[:, 1], second[:, 0], second[:, 1])
        rows[f"{name}, MobileNetV2"] = scores(alone, truth)
        rows[f"{name}, MobileNetV1"] = scores(combine(second[:, 0]), truth)
        rows[f"{name}, both, mirror images"] = scores(both, truth)
        smaller = [answers.of(name, network, images, SMALLER) for network in NETWORKS]
        every = [answer[:, view] for answer in (first, second, *smaller) for view in (0, 1)]
        rows[f"{name}, both, mirror images, at 224 and {SMALLER}"] = scores(combine(*every), truth)
        for count in (50, 250):
            some = rng.choice(len(truth), count, replace=False)
            rows[f"{count} images of {name}, MobileNetV2"] = scores(alone[some], truth[some])
        if name == "valid":
            rows["valid, both, told the classes"] = scores(both, np.searchsorted(occurring, truth), occurring)
            tail = [
                np.flatnonzero(truth == c)[: -(-25 // rank)] for rank, c in enumerate(rng.permutation(occurring), 1)
            ]
            rows["a long tail of valid, both"] = scores(both[np.concatenate(tail)], truth[np.concatenate(tail)])
    return rows


def drawn_rows(answers: Answers, shuffled: np.ndarray, occurring: tuple[int, ...]) -> dict[str, dict]:
    """Few classes of the train images."""
    store, rows = answers.images("train"), {}
    few, near = shuffled[:CLASSES], occurring[:NEIGHBORS]
    chosen = np.flatnonzero(np.isin(store.truth, [*few, *near]))
    truth = store.truth[chosen]
    alone = combine(answers.of("train-drawn", NETWORKS[0], store.images[chosen])[:, 0])
    one = np.flatnonzero(truth == few[0])
    others = np.flatnonzero(np.isin(truth, near))[:: NEIGHBORS * PER_CLASS // 53]
    draws = {
        f"{CLASSES} classes of {PER_CLASS} images": np.isin(truth, few),
        f"2 classes of {PER_CLASS} images": np.isin(truth, few[:2]),
        f"{NEIGHBORS} neighboring classes of {PER_CLASS} images": np.isin(truth, near),
        "one class is 60 % of the images": np.concatenate([one, others]),
    }
    for name, mask in draws.items():
        rows[f"{name}, MobileNetV2"] = scores(alone[mask], truth[mask])
    return rows


def fit_head(features: np.ndarray, truth: np.ndarray, classes: int):
    """features -> log-probabilities, of a softmax regression by Adam; features (N, F), truth int (N,)."""
    center, scale = features.mean(0), features.std(0)
    inputs, targets = (features - center) / scale, np.eye(classes)[truth]
    kernel, first, second = (np.zeros((features.shape[1], classes)) for _ in range(3))
    for step in range(1, STEPS + 1):
        gradient = inputs.T @ (np.exp(adaptation.log_softmax(inputs @ kernel)) - targets) / len(inputs)
        gradient += PENALTY * kernel
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        kernel -= RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return lambda more: adaptation.log_softmax((more - center) / scale @ kernel)


def unshifted_rows(answers: Answers) -> dict[str, dict]:
    """Teachers asked about the very kind of images that they were made of."""
    store, rng, rows = answers.images("valid"), np.random.default_rng(1), {}
    occurring, truth = np.unique(store.truth, return_inverse=True)
    features = np.concatenate([answers.of("valid", each, store.images).mean(1) for each in NETWORKS], axis=1)
    order = rng.permutation(len(truth))
    taught, asked = order[:OF_HEAD], order[OF_HEAD:]
    head = fit_head(features[taught].astype(np.float64), truth[taught], len(occurring))
    log_p, truth = head(features[asked]), truth[asked]
    name = "a teacher of 200 classes on images like its own"
    rows[name] = scores(log_p, truth)
    for count in (50, 250):
        rows[f"{name}, {count} of them"] = scores(log_p[:count], truth[:count])
    for count in (10, 50):
        mask = np.isin(truth, rng.choice(len(occurring), count, replace=False))
        rows[f"{name}, {count} of the classes"] = scores(log_p[mask], truth[mask])
    half = tuple(range(0, len(occurring), 2))
    mask = np.isin(truth, half)
    rows[f"{name}, told 100 of them"] = scores(log_p[mask], truth[mask] // 2, half)
    return rows


def shapes_rows(answers: Answers) -> dict[str, dict]:
    """The bundled teacher of 12 classes on shapes of its own size and of smaller ones, enlarged."""
    rows = {}
    for size in (64, 48, 32):
        shapes = open_images(ImageFlags(images="shapes", split="valid", limit=1000, size=size), Console())
        answered = answers.of(f"shapes-{size}", "bundled", shapes.images)
        rows[f"shapes of {size} pixels, the bundled teacher"] = scores(combine(answered[:, 0]), shapes.truth)
    return rows


def cifar10_rows(answers: Answers, archive: str) -> dict[str, dict]:
    """ResNet-8 on CIFAR-10's test images."""
    store = open_images(ImageFlags(images="cifar10", split="test", archives=archive), Console())
    answered = answers.of("cifar10-test", "cifar10_resnet8.h5", store.images)
    return {"CIFAR-10, ResNet-8": scores(combine(answered[:, 0]), store.truth)}


def cost(log_p: np.ndarray) -> dict[str, float]:
    """What finding the adaptation costs beyond the answers, (N, classes), that it is found on."""
    start = time.process_time()
    found = adaptation.fit(log_p, "auto")
    seconds = time.process_time() - start
    tracemalloc.start()
    adaptation.fit(log_p, "auto")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = len(json.dumps(dataclasses.asdict(found)))
    return {"cpu_seconds": round(seconds, 1), "peak_bytes": peak, "kept_bytes": kept}


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real-data", default=os.environ.get("TFPIPELINE_REAL_DATA"), help="folder of the real data")
    parser.add_argument("--answers", default="answers", help="folder that keeps the teachers' answers")
    parser.add_argument("--cifar10", help="cifar-10-binary.tar.gz, or its folder")
    args = parser.parse_args()
    if args.real_data is None:
        parser.error("--real-data is missing, and TFPIPELINE_REAL_DATA is not set")
    answers = Answers(pathlib.Path(args.answers), pathlib.Path(args.real_data))
    rows = imagenet_rows(answers) | unshifted_rows(answers) | shapes_rows(answers)
    if args.cifar10:
        rows |= cifar10_rows(answers, args.cifar10)
    seen = ("evenness", "spread", "spread_ratio", "gain", "purity_ratio", "divergence")
    table = [("images and teacher", "images", "as answered", *METHODS, "auto does", *seen)]
    for name, row in rows.items():
        shown = ("/".join(f"{100 * share:.1f}" for share in row[column]) for column in ("plain", *METHODS))
        guards = (f"{row['found'][name]:.2f}" if name in row["found"] else "-" for name in seen)
        table.append((name, f"{row['images']:,}", *shown, row["does"] or "-", *guards))
    print_table(table)
    valid = combine(answers.of("valid", NETWORKS[0], answers.images("valid").images)[:, 0])
    worst = min(row["change"] for row in rows.values())
    print(json.dumps({"worst": worst, "cost": cost(valid), "rows": rows}))


if __name__ == "__main__":
    main()
