"""python -m jobs.evaluate: how good a run's network is on images, in figures and pictures."""

import csv
import dataclasses
import io
import json
import pathlib

import numpy as np

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.system import UserError

EXAMPLE = "python -m jobs.evaluate --run runs/shapes --images shapes --split valid --labels runs/labels-valid"
MOST_MISTAKES = 32
MOST_CLASSES_IN_PICTURE = 40
MOST_CONFUSIONS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Evaluates a trained run on a split: accuracy, agreement with the teacher, confusion, calibration, mistakes."""

    run: str = required("run directory of jobs.train, with model.keras", metavar="DIR")
    labels: str | None = flag(None, "label store of these images, for the agreement with the teacher", metavar="DIR")
    out: str | None = flag(None, "where tables and pictures go, by default RUN/evaluation", metavar="DIR")
    flip: bool = flag(False, "average the answers on each image and on its mirror image")
    batch_size: int = flag(250, "images at a time", metavar="N")


def run(config: Config) -> dict:
    """Evaluates, writes the tables and pictures, and returns the figures."""
    command.import_tensorflow()
    from models import losses
    from tfpipeline.system import Console
    from tfpipeline.training import answer_images, evaluation

    console = Console(config.quiet)
    model = load_model(pathlib.Path(config.run))
    store = open_images(config, console)
    classes = model.output_shape[-1]
    teacher = None if config.labels is None else teacher_answers(config.labels, store, classes, console)
    teacher_top = None if teacher is None else teacher["top_k"][:, 0]
    spec = spec_of_classes(config)
    truth = truth_of(store, spec, classes, console, learned_class_order(config.run))
    answers = answer_images(model, store.images, config.batch_size, config.flip, console, losses.distillation, teacher)
    out = pathlib.Path(config.out or pathlib.Path(config.run) / "evaluation")
    out.mkdir(parents=True, exist_ok=True)
    known = (truth >= 0).any()
    reference, source = (truth, "truth") if known else (teacher_top, "teacher")
    if reference is not None:
        names = class_names(store, classes, spec)
        write_mistakes(out / "mistakes.png", store.images, answers, truth, teacher, names)
        write_reliability(out / "reliability.png", answers, reference, source)
        write_confusion(out / "confusion.png", answers, reference, names, source)
        write_per_class(out / "per_class.csv", answers, reference, names)
    figures = evaluation.figures(answers, truth, teacher_top)
    print_table(figures)
    return {"images": len(store), **figures, "out": str(out), "run": config.run}


def load_model(directory: pathlib.Path):
    """The network of a finished run.

    Raises:
        UserError: the run has no model.keras, or it does not load.
    """
    import keras

    import models.networks  # noqa: F401 - registers the layers that the file names

    path = directory / "model.keras"
    if not path.is_file():
        raise UserError(
            f"{path} is not there: finish the training with python -m jobs.train --run {directory} --resume"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{path} does not load ({error}); write it again with jobs.train --resume") from error


def teacher_answers(labels: str, store, classes: int, console) -> dict[str, np.ndarray]:
    """The teacher's answers to each image of the store, as in `training_data.Data.answers`.

    Raises:
        UserError: the labels are of other images, or over another number of classes than the network's.
    """
    from jobs.training import answers_to_images
    from labeling.labels import open_labels

    stored = open_labels(labels)
    if stored.spec.classes != classes:
        raise UserError(
            f"--labels {labels} count {stored.spec.classes:,} classes, the network {classes:,}; give labels by the "
            "teacher that it learned from"
        )
    note = stored.check_joins(store)
    if note:
        console.say(note)
    return answers_to_images(stored)


def read_config(run: str) -> dict:
    """What config.json of a run says; nothing where it is not there."""
    path = pathlib.Path(run) / "config.json"
    return json.loads(path.read_text()) if path.is_file() else {"flags": {"labels": None}, "experiment": {}}


def learned_class_order(run: str) -> str | None:
    """The hash of the classes, in their order, that a run learned from the truth; None where it says nothing of it."""
    config = read_config(run)
    return config["experiment"].get("class_order") if config["flags"]["labels"] == "truth" else None


def spec_of_classes(config: Config):
    """The spec of labels that count classes as the network does: --labels, else those that it learned from, or None.

    Raises:
        UserError: both are there and count their classes differently.
    """
    from labeling.labels import SPEC_FILE, count_alike, open_labels

    learned = read_config(config.run)["flags"]["labels"]

    def spec_in(labels):
        there = labels is not None and (pathlib.Path(labels) / SPEC_FILE).is_file()
        return open_labels(labels).spec if there else None

    given, own = spec_in(config.labels), spec_in(learned)
    if given and own and not count_alike(given, own):
        raise UserError(
            f"--labels {config.labels} count other classes, or in another order, than {learned}, which the network "
            "learned from; give labels by the same teacher over the same classes"
        )
    return given or own


def truth_of(store, spec, classes: int, console, class_order: str | None = None) -> np.ndarray:
    """The truth of the images as the network counts its classes, int32 (N,), -1 where it is not known.

    Args:
        store: the ImageStore.
        spec: of labels that count classes as the network does, or None.
        classes: of the network.
        console: where notes go.
        class_order: what `learned_class_order` tells.

    Raises:
        UserError: the truth counts other classes than the network, and nothing tells how they belong together.
    """
    from jobs.training import hash_of_names, truth_in_classes_of

    if spec is not None:
        return truth_in_classes_of(spec, store, console)
    if len(store.classes) not in (0, classes) or store.truth.max() >= classes:
        raise UserError(
            f"the truth counts {len(store.classes) or store.truth.max() + 1:,} classes, the network {classes:,}; give "
            "the --labels of these images, or a truth csv whose class_index is the network's"
        )
    unknown, unnamed = None, hash_of_names(())
    if store.classes and class_order not in (unknown, unnamed, hash_of_names(store.classes)):
        raise UserError(
            "the truth names other classes, or in another order, than the one that the network learned from; give the "
            "images a truth of the same classes in the same order"
        )
    return store.truth


def class_names(store, count: int, spec=None) -> list[str]:
    """A short name for each of the classes: as the labels' spec or the store has them, else the numbers."""
    if spec is not None:
        from labeling.labels import quality

        return [name.split(",")[0] for name in quality.class_names(spec, store)]
    if len(store.classes) != count:
        return [str(number) for number in range(count)]
    return [name.split(",")[0] for _, name in store.classes]


def confusions(answers, reference, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of classes that occurs: (reference, answer, number of images), int64 each, the most frequent first."""
    known = reference >= 0
    pairs, images = np.unique(reference[known].astype(np.int64) * classes + answers.top[known, 0], return_counts=True)
    order = np.argsort(-images, kind="stable")
    return *np.divmod(pairs[order], classes), images[order]


def write_mistakes(path, images, answers, truth, teacher, names) -> None:
    """Writes the most confident wrong answers with the truth, or where it is not known the teacher's; none, no file.

    Args:
        path: the png.
        images: uint8 (N, H, W, 3).
        answers: the student's.
        truth: int32 (N,), -1 where unknown.
        teacher: its answers as in `training_data.Data.answers`, or None.
        names: of the classes.
    """
    from tfpipeline import pictures

    known = (truth >= 0).any()
    reference = truth if known else teacher["top_k"][:, 0]
    wrong = np.flatnonzero((reference >= 0) & (answers.top[:, 0] != reference))
    worst = wrong[np.argsort(-answers.probability[wrong], kind="stable")][:MOST_MISTAKES].tolist()
    if not worst:
        return

    def caption(i):
        lines = [names[truth[i]]] if known else []
        if teacher is not None:
            lines.append(f"T {np.exp(teacher['log_probs'][i, 0]):.0%} {names[teacher['top_k'][i, 0]]}")
        return "\n".join([*lines, f"S {answers.probability[i]:.0%} {names[answers.top[i, 0]]}"])

    those = [*(["truth"] if known else []), *(["teacher (T)"] if teacher is not None else []), "student (S)"]
    title = f"the student's most confident mistakes: {', '.join(those)}"
    pictures.save(pictures.contact_sheet(images[worst], [caption(i) for i in worst], title=title), path)


def write_reliability(path, answers, reference, source) -> None:
    """Writes how often the student is right at each confidence."""
    from tfpipeline import pictures

    known = reference >= 0
    correct = answers.top[known, 0] == reference[known]
    pictures.save(
        pictures.reliability_diagram(answers.probability[known], correct, title=f"against the {source}"), path
    )


def write_confusion(path, answers, reference, names, source) -> None:
    """Writes the confusion matrix; of many classes the most frequent confusions alone."""
    from tfpipeline import pictures

    row, column, images = confusions(answers, reference, len(names))
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


def write_per_class(path, answers, reference, names) -> None:
    """Writes a csv: class, name, images, right, top1, and what it is most often mistaken for."""
    from tfpipeline.system import write_file

    row, column, images = confusions(answers, reference, len(names))
    of_class = np.bincount(row, images, len(names)).astype(int)
    right = np.bincount(row[row == column], images[row == column], len(names)).astype(int)
    mistaken = {}
    for i in np.flatnonzero(row != column).tolist():
        mistaken.setdefault(int(row[i]), (names[column[i]], int(images[i])))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class_index", "name", "images", "right", "top1", "mistaken_for", "mistakes"])
    for index, name in enumerate(names):
        top1 = f"{right[index] / of_class[index]:.4f}" if of_class[index] else ""
        table.writerow([index, name, of_class[index], right[index], top1, *mistaken.get(index, ("", 0))])
    write_file(path, text.getvalue().encode())


def print_table(figures) -> None:
    """Prints the figures that are known, shares in percent."""
    for name, value in figures.items():
        if value is not None:
            print(f"{name:>15}  {value:7.3f}" if name.endswith("nats") else f"{name:>15}  {100 * value:5.1f} %")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
