"""The tables and pictures of an evaluation: mistakes, calibration, confusion, a row for each class."""

import dataclasses
import pathlib

import numpy as np

from tfpipeline import pictures
from tfpipeline.batches import Answers
from tfpipeline.images import Pixels
from tfpipeline.system import Console, UserError, sha256_of_file, write_csv
from tfpipeline.training import Predictions, reliability, run_directory

MOST_MISTAKES = 32
MOST_CLASSES_IN_PICTURE = 40
MOST_CONFUSIONS = 30
FILES = (run_directory.EVALUATION, "mistakes.png", "reliability.png", "confusion.png", "per_class.csv")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What is known after an evaluation of N images.

    Attributes:
        predictions: the student's.
        truth: int32 (N,), -1 where unknown.
        teacher: its answers, leading axes (N,); or None.
        names: of the classes.
    """

    predictions: Predictions
    truth: np.ndarray
    teacher: Answers | None
    names: list[str]

    @property
    def has_truth(self) -> bool:
        """Whether the class of any image is known."""
        return bool((self.truth >= 0).any())

    @property
    def reference(self) -> np.ndarray | None:
        """What the student is held to, int (N,), -1 where unknown: the truth, else the teacher; None without both."""
        if self.has_truth:
            return self.truth
        return None if self.teacher is None else self.teacher.first

    @property
    def source(self) -> str:
        """What the reference is."""
        return "truth" if self.has_truth else "teacher"


def write_all(out: pathlib.Path, images: Pixels, evaluated: Evaluated) -> None:
    """Writes all tables and pictures into a directory; without truth and teacher there are none.

    Args:
        out: the directory.
        images: uint8 (N, H, W, 3).
        evaluated: what is known of them.
    """
    for name in FILES:  # What an earlier evaluation showed is not this one's.
        (out / name).unlink(missing_ok=True)
    if evaluated.reference is not None:
        write_mistakes(out / "mistakes.png", images, evaluated)
        write_reliability(out / "reliability.png", evaluated)
        write_confusion(out / "confusion.png", evaluated)
        write_per_class(out / "per_class.csv", evaluated)


def write_origin(out: pathlib.Path, run: pathlib.Path, origin: dict) -> None:
    """Writes evaluation.json: of which network and which images these tables and pictures are.

    Args:
        out: the directory of the evaluation.
        run: the run directory.
        origin: what else there is to say, for JSON.
    """
    files = {name: sha256_of_file(out / name) for name in FILES if (out / name).is_file()}
    run_directory.write_evaluation(out, run, {**origin, "files": files})


def pictures_of_network(out: pathlib.Path, run: pathlib.Path, console: Console) -> list[pathlib.Path]:
    """The pictures of an evaluation, as they were written; none where it is not of the network that the run has now.

    Args:
        out: the directory of the evaluation.
        run: the run directory.
        console: where it is said that one is left out.
    """
    try:
        said = run_directory.read_evaluation(out, run)
    except UserError as error:
        console.say(f"the pictures in {out} are left out: {error}")
        return []
    if said is None:
        return []
    found = []
    for path in sorted(out.glob("*.png")):
        if "files" in said and said["files"].get(path.name) != sha256_of_file(path):
            console.say(f"{path} is not as jobs.evaluate wrote it, and is left out; jobs.evaluate writes it again")
        else:  # Version 0.1 wrote no hashes.
            found.append(path)
    return found


def confusions(evaluated: Evaluated) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of classes that occurs: (reference, answer, number of images), int64 each, the most frequent first."""
    reference, classes = _known_reference(evaluated), len(evaluated.names)
    known = reference >= 0
    answered = evaluated.predictions.top[known, 0]
    pairs, images = np.unique(reference[known].astype(np.int64) * classes + answered, return_counts=True)
    order = np.argsort(-images, kind="stable")
    return *np.divmod(pairs[order], classes), images[order]


def _known_reference(evaluated):
    assert evaluated.reference is not None, "there is neither truth nor a teacher"
    return evaluated.reference


def write_mistakes(path: pathlib.Path, images: Pixels, evaluated: Evaluated) -> None:
    """Writes the most confident wrong answers with the truth, or where it is not known the teacher's; none, no file."""
    predictions, teacher, names = evaluated.predictions, evaluated.teacher, evaluated.names
    reference = _known_reference(evaluated)
    wrong = np.flatnonzero((reference >= 0) & (predictions.top[:, 0] != reference))
    worst = wrong[np.argsort(-predictions.probability[wrong], kind="stable")][:MOST_MISTAKES].tolist()
    if not worst:
        return

    def caption(i):
        lines = [names[evaluated.truth[i]]] if evaluated.has_truth else []
        if teacher is not None:
            lines.append(f"T {teacher.confidence[i]:.0%} {names[teacher.first[i]]}")
        return "\n".join([*lines, f"S {predictions.probability[i]:.0%} {names[predictions.top[i, 0]]}"])

    those = [*(["truth"] if evaluated.has_truth else []), *(["teacher (T)"] if teacher is not None else [])]
    title = f"the student's most confident mistakes: {', '.join([*those, 'student (S)'])}"
    pictures.save(pictures.contact_sheet(images[worst], [caption(i) for i in worst], title=title), path)


def calibration_error(evaluated: Evaluated) -> float | None:
    """The expected calibration error against the truth, in 0..1; None where no truth is known."""
    return _reliability_of(evaluated).error if evaluated.has_truth else None


def _reliability_of(evaluated):
    reference, predictions = _known_reference(evaluated), evaluated.predictions
    known = reference >= 0
    return reliability(predictions.probability[known], predictions.top[known, 0] == reference[known])


def write_reliability(path: pathlib.Path, evaluated: Evaluated) -> None:
    """Writes how often the student is right at each confidence."""
    found = _reliability_of(evaluated)
    title = f"against the {evaluated.source}"
    pictures.save(pictures.reliability_diagram(found.counts, found.accuracy, found.error, title), path)


def write_confusion(path: pathlib.Path, evaluated: Evaluated) -> None:
    """Writes the confusion matrix; of many classes the most frequent confusions alone."""
    names, source = evaluated.names, evaluated.source
    row, column, images = confusions(evaluated)
    right = images[row == column].sum() / images.sum()
    title = f"{right:.1%} of {images.sum():,} images are answered as the {source} says"
    if len(names) <= MOST_CLASSES_IN_PICTURE:
        matrix = np.zeros((len(names), len(names)), np.int64)
        matrix[row, column] = images
        pictures.save(pictures.confusion_matrix(matrix, names, title, source), path)
        return
    of_class = np.bincount(row, images, len(names))
    wrong = np.flatnonzero(row != column)[:MOST_CONFUSIONS]
    most = [(names[row[i]], names[column[i]], int(images[i]), images[i] / of_class[row[i]]) for i in wrong]
    pictures.save(pictures.frequent_confusions(most, f"{title}\nthe most frequent others: {source} → answer"), path)


def write_per_class(path: pathlib.Path, evaluated: Evaluated) -> None:
    """Writes a csv: class, name, images, right, top1, and what it is most often mistaken for."""
    names = evaluated.names
    row, column, images = confusions(evaluated)
    of_class = np.bincount(row, images, len(names)).astype(int)
    right = np.bincount(row[row == column], images[row == column], len(names)).astype(int)
    mistaken: dict[int, tuple[str, int]] = {}
    for i in np.flatnonzero(row != column).tolist():
        mistaken.setdefault(int(row[i]), (names[column[i]], int(images[i])))
    rows = []
    for index, name in enumerate(names):
        top1 = f"{right[index] / of_class[index]:.4f}" if of_class[index] else ""
        rows.append([index, name, of_class[index], right[index], top1, *mistaken.get(index, ("", 0))])
    write_csv(path, ["class_index", "name", "images", "right", "top1", "mistaken_for", "mistakes"], rows)


def print_table(figures: dict[str, float | None]) -> None:
    """Prints the figures that are known, shares in percent."""
    for name, value in figures.items():
        if value is not None:
            print(f"{name:>17}  {value:7.3f}" if name.endswith("nats") else f"{name:>17}  {100 * value:5.1f} %")
