"""What becomes of flipped bits: one at a time, in every file of a finished run, its images, labels and teachers.

    python -m benchmarks.flipped_bits
    python -m benchmarks.flipped_bits --flips 5000

A teacher labels 48 pictures of shapes, a student learns from the labels and is evaluated. Then bits of every file are
flipped, one at a time, spread evenly over it, and the file is read as the commands read it. Either what is read is what
was read before ("same"), or one line names the file ("named"); anything else is an error. A teacher is read beside its
labels, which know it: another one is refused there. A legacy .h5 file is read without labels as well; a flip that gives
another teacher is counted ("unnoticed alone").

The last line is one JSON object: kind of file -> flips, same, named; and in all.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

from jobs import command, evaluate, label_imagenet64, train
from labeling.labels import create_labels, open_labels, read_flags
from tfpipeline.images import ImageFlags, open_images, shapes
from tfpipeline.images.mapped import VERIFIED
from tfpipeline.images.store import open_store
from tfpipeline.system import UserError
from tfpipeline.training import checkpoint, run_directory

IMAGES, SIZE = 48, 64
OTHER_BITS = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        name: for the table.
        files: all of them.
        read: () -> what is read of them, comparable; raises UserError where one is damaged.
        share: of the flips.
        alone: () -> what is read of them where nothing else knows them; None for `read`.
    """

    name: str
    files: list[pathlib.Path]
    read: Callable[[], object]
    share: float
    alone: Callable[[], object] | None = None


def build_world(directory: pathlib.Path) -> list[Kind]:
    """Labels, trains and evaluates in a directory; returns the files that this leaves."""
    command.import_tensorflow()
    images = ["--images", "shapes", "--limit", IMAGES, "--cache", directory / "cache"]
    teachers = _save_teachers(directory)
    label = ["--teacher-range", "0..255", "--shard-size", 24, "--top-k", 5, "--no-gate", "--quiet"]
    for teacher in teachers:
        _run(label_imagenet64, [*images, *label, "--teacher", teacher, "--out", _labels_of(teacher)])
    labels, held_out = _labels_of(teachers[0]), directory / "labels-valid"
    valid = ["--split", "valid", *images]
    _run(label_imagenet64, [*valid, *label, "--teacher", teachers[0], "--out", held_out])
    options = [text for option in ("filters=4", "hidden=8") for text in ("--network-options", option)]
    student = ["--labels", labels, "--validation-labels", held_out, "--validation-limit", IMAGES]
    student += ["--network", "patchify_net", *options, "--batch-size", 16, "--epochs", 2, "--save-every", 2]
    run = directory / "run"
    _run(train, [*images, *student, "--run", run, "--quiet"])
    _run(evaluate, ["--run", run, "--quiet"])
    return list(_kinds(directory, run, labels, teachers))


def _run(job, argv):
    job.run(command.parse(job.Config, list(map(str, argv)), job.__name__, ""))


def _labels_of(teacher):
    return teacher.with_name(f"labels-{teacher.name}")


def _save_teachers(directory):
    """A classifier of mean colors as a SavedModel, a .keras and a legacy .h5 file."""
    import keras
    import tf_keras

    paths = [directory / name for name in ("saved_model", "teacher.keras", "teacher.h5")]
    for path in paths:
        library = tf_keras if path.suffix == ".h5" else keras
        library.utils.set_random_seed(0)
        layers = [library.layers.Rescaling(1 / 255), library.layers.GlobalAveragePooling2D(), library.layers.Dense(12)]
        model = library.Sequential([library.layers.Input((SIZE, SIZE, 3)), *layers])
        model.export(path, verbose=False) if path == paths[0] else model.save(path)
    return paths


def _kinds(directory, run, labels, teachers) -> Iterator[Kind]:
    from jobs.reports.evaluation import pictures_of_network
    from jobs.training import load_model

    def read_model():
        return checkpoint.sha256_of_arrays({v.path: v.numpy() for v in load_model(run).variables})

    def read_checkpoints():
        said: list[str] = []
        newest = checkpoint.load_newest(run / run_directory.CHECKPOINTS, said.append)
        if said:
            raise UserError(said[0])
        return newest.step, checkpoint.sha256_of_arrays(newest.arrays), newest.state

    def read_pictures():
        said = Said()
        found = pictures_of_network(run / "evaluation", run, said)
        if said.lines:
            raise UserError(said.lines[0])
        return [path.read_bytes() for path in found]

    store = open_images(ImageFlags(images="shapes", limit=IMAGES, cache=str(directory / "cache")))

    def read_images():
        again = open_store(store.directory)
        return again.fingerprint, again.names, again.classes, again.truth.tolist(), np.asarray(again.images).tobytes()

    def read_labels():
        stored = open_labels(labels)
        stored.check_same_images(store)
        answers = [array.tobytes() for array in stored.read_all().arrays().values()]
        return answers, stored.spec.class_names, read_flags(labels)

    newest = checkpoint.newest_first(run / run_directory.CHECKPOINTS)[:1]
    evaluation = [path for path in sorted((run / "evaluation").iterdir()) if path.suffix != ".csv"]
    yield Kind("model.keras", [run / run_directory.MODEL], read_model, 0.1)
    yield Kind("checkpoint", newest, read_checkpoints, 0.15)
    yield Kind("config.json", [run / run_directory.CONFIG], lambda: run_directory.read_config(run), 0.08)
    yield Kind("figures.json", [run / run_directory.FIGURES], lambda: run_directory.read_figures(run), 0.07)
    yield Kind("history.csv", [run / run_directory.HISTORY], lambda: run_directory.read_history(run), 0.05)
    yield Kind("evaluation", evaluation, read_pictures, 0.1)
    # A record of the last verification that is damaged counts for nothing: the images are verified again.
    files = [path for path in sorted(store.directory.iterdir()) if path.name != VERIFIED]
    stored_images = [path for path in files if path.stat().st_size]
    yield Kind("image store", stored_images, read_images, 0.18)
    yield Kind("label store", sorted(labels.iterdir()), read_labels, 0.15)
    for teacher in teachers:
        yield _teacher(teacher)


def _teacher(path):
    """A teacher, read as labeling reads it."""
    from labeling.teachers import load_teacher

    pixels = shapes.draw(0, "train", 0)[0][None].astype(np.float32)
    stored = open_labels(_labels_of(path))

    def alone():
        return load_teacher(str(path), range="0..255").log_probs(pixels).numpy().tobytes()

    def beside_its_labels():
        teacher = load_teacher(str(path), range="0..255")
        described = {**stored.spec.teachers[0], **teacher.describe()}
        try:
            create_labels(stored.directory, dataclasses.replace(stored.spec, teachers=(described,)))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        return teacher.log_probs(pixels).numpy().tobytes()

    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    name = {".keras": "teacher .keras", ".h5": "teacher .h5"}.get(path.suffix, "teacher SavedModel")
    return Kind(name, files, beside_its_labels, 0.04, alone if path.suffix == ".h5" else None)


class Said:
    """A console that keeps its lines."""

    def __init__(self):
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keeps it."""
        self.lines.append(line)


def sweep(kinds: list[Kind], flips: int) -> dict[str, dict[str, int]]:
    """Flips bits one at a time, and counts what becomes of them: kind -> {"flips", "same", "named"}.

    Raises:
        AssertionError: a flip ended otherwise; names the file and the place.
    """
    return {kind.name: _sweep(kind, max(1, round(flips * kind.share))) for kind in kinds}


def _sweep(kind, flips):
    counts = {"flips": 0, "same": 0, "named": 0} | ({"unnoticed alone": 0} if kind.alone else {})
    whole, whole_alone = kind.read(), kind.alone and kind.alone()
    sizes = [path.stat().st_size for path in kind.files]
    for number in range(flips):
        path = kind.files[number % len(kind.files)]
        content = path.read_bytes()
        turn, turns = number // len(kind.files), -(-flips // len(kind.files))
        place, bit = (2 * turn + 1) * len(content) // (2 * turns), int(OTHER_BITS.integers(8))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        try:
            outcome = _outcome(kind.read, whole, kind.files)
            assert outcome in counts, f"bit {bit} of byte {place} of {path}: {outcome}"
            counts["flips"] += 1
            counts[outcome] += 1
            if kind.alone and _outcome(kind.alone, whole_alone, kind.files) == OTHER:
                counts["unnoticed alone"] += 1
        finally:
            path.write_bytes(content)
    assert kind.read() == whole and [path.stat().st_size for path in kind.files] == sizes
    return counts


OTHER = "something else is read, and nothing is said"


def _outcome(read, whole, files):
    try:
        found = read()
    except UserError as error:
        line = str(error)
        names = {str(path) for path in files} | {str(path.parent) for path in files}
        return "named" if "\n" not in line and any(name in line for name in names) else f"names no file: {line}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "same" if found == whole else OTHER


def main() -> None:
    """Flips and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000, help="over all kinds of files (default: %(default)s)")
    with tempfile.TemporaryDirectory() as directory:
        found = sweep(build_world(pathlib.Path(directory)), parser.parse_args().flips)
    for name, counts in found.items():
        print(f"{name:20}", ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    total = {what: sum(counts[what] for counts in found.values()) for what in ("flips", "same", "named")}
    print(json.dumps({**found, "all": total}))


if __name__ == "__main__":
    main()
