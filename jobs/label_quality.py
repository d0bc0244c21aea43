"""python -m jobs.label_quality: how far labels can be trusted, in figures and pictures, with the truth or without."""

import csv
import dataclasses
import io
import pathlib

import numpy as np

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.system import UserError

EXAMPLE = """python -m jobs.label_quality --labels labels/shapes --images shapes --out quality
  python -m jobs.label_quality --labels labels/a --against labels/b --images folder:photos --out quality"""
SHOWN, LISTED = 48, 1000
WORST_CLASSES = 20
MOST_BARS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Judges the labels of a label store by second opinions, and by the truth where it is known.

    Second opinions are its further stored views and the labels of other teachers. The temperature of the labels is
    fitted on the answers of the other teachers, without these on those to the other views; never on the truth.
    Writes suspicious.csv and, as far as there is something to show, suspicious.png, disagreement.png, reliability.png,
    class_balance.png and confusion.png.
    """

    labels: str = required("label store to judge", metavar="DIR")
    against: tuple[str, ...] = flag(
        (), "label store of the same images by another teacher; may be repeated", metavar="DIR"
    )
    out: str = required("directory for the pictures and the table", metavar="DIR")


def run(config: Config) -> dict:
    """Judges the labels, writes the pictures and returns the figures."""
    from labeling.labels import (
        agreement,
        fitted_temperature,
        quality,
    )
    from labeling.labels import opinions as quality_report
    from tfpipeline.system import Console

    console = Console(config.quiet)
    store = open_images(config, console)
    (first, *others), spec, truth = open_opinions(config, store, console)
    names = [name.split(",")[0] for name in quality.class_names(spec, store)]
    # A teacher repeats its own errors on its own views: other teachers are the better reference, where there are any.
    second = [other.answers for other in (others[len(spec.views) - 1 :] or others)]
    temperature = fitted_temperature(first, second) if second else None
    trust = quality_report.trust(first, others)
    out = pathlib.Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_suspicious(out, store, first, others, trust, truth, names)
    write_balance(out, first, truth, names)
    errors = write_reliability(out, first, [truth] if truth is not None else second, temperature, truth is not None)
    if truth is not None:
        write_confusion(out, first, truth, names)
    labels_figures = {
        "top1": None if truth is None else float(np.mean(first.answers[truth >= 0] == truth[truth >= 0])),
        "mean_top_probability": float(first.confidence.mean()),
        "mean_trust": float(trust.mean()),
        "agreement": agreement(first, others),
        "temperature": temperature,
        "calibration_error": errors[0],
        "calibration_error_at_temperature": errors[1],
    }
    for name, value in labels_figures.items():
        print(f"{name.replace('_', ' '):34}{'-' if value is None else f'{value:.4f}':>8}")
    return {"images": len(store), "opinions": 1 + len(others), **labels_figures, "out": config.out}


def open_opinions(config: Config, store, console):
    """([opinion to judge, second opinions ...], spec of the labels, truth in the teacher's classes or None).

    Raises:
        UserError: labels are of other images or other classes, or incomplete.
    """
    from labeling.labels import (
        count_alike,
        open_labels,
        quality,
    )
    from labeling.labels import opinions as quality_report

    found, first_spec = [], None
    for directory in (config.labels, *config.against):
        stored = open_labels(directory)
        if note := stored.check_joins(store):
            console.say(note)
        first_spec = first_spec or stored.spec
        if not count_alike(first_spec, stored.spec):
            raise UserError(
                f"--against {directory} counts {stored.spec.classes:,} classes, --labels {config.labels} "
                f"{first_spec.classes:,}, or in another order; give labels over the same classes"
            )
        teacher = "+".join(teacher["name"] for teacher in stored.spec.teachers)
        views = [f"{teacher} ({view})" for view in stored.spec.views]
        found += quality_report.opinions(stored.read_all(), stored.spec.classes, views)
    truth, note = quality.truth_in_classes_of(first_spec, store)
    if note:
        console.say(note)
    return found, first_spec, truth


def write_suspicious(out, store, first, others, trust, truth, names) -> None:
    """Writes suspicious.csv and pictures of the least trusted images and of the most confident disagreements."""
    from labeling.labels import confident_disagreement
    from tfpipeline.system import write_file

    order = np.argsort(trust, kind="stable")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["index", "name", "trust", "answer", "probability", *(f"answer of {other.name}" for other in others)]
    )
    for i in order[:LISTED].tolist():
        seconds = [names[other.answers[i]] for other in others]
        answer, probability = names[first.answers[i]], f"{first.confidence[i]:.4f}"
        table.writerow([i, store.names[i], f"{trust[i]:.4f}", answer, probability, *seconds])
    write_file(out / "suspicious.csv", text.getvalue().encode())
    title = "the least trusted labels: the label"
    write_sheet(out / "suspicious.png", store, order[:SHOWN], [first, *others], truth, names, title)
    if others:
        strength = confident_disagreement(first, others)
        strongest = np.argsort(-strength, kind="stable")[:SHOWN]
        title = "the most confident disagreements: the label"
        chosen = strongest[strength[strongest] > 0]
        write_sheet(out / "disagreement.png", store, chosen, [first, *others], truth, names, title)


def write_sheet(path, store, chosen, opinions, truth, names, title) -> None:
    """Writes images with what each opinion says, green and red where the truth of them is known; nothing for none."""
    from tfpipeline import pictures

    if not len(chosen):
        return
    captions, colors = [], []
    for i in chosen.tolist():
        lines = [f"{opinion.confidence[i]:.0%} {names[opinion.answers[i]]}" for opinion in opinions]
        known = truth is not None and truth[i] >= 0
        captions.append("\n".join([*lines, f"truth: {names[truth[i]]}"] if known else lines))
        right = known and truth[i] == opinions[0].answers[i]
        colors.append(pictures.RIGHT if right else pictures.WRONG if known else pictures.PLAIN)
    title += ", then the second opinions" if len(opinions) > 1 else ""
    title += " (green: the label is right)" if truth is not None else ""
    pictures.save(pictures.contact_sheet(store.images[chosen], captions, colors, title=title), path)


def write_balance(out, first, truth, names) -> None:
    """Writes class_balance.png: images by first answer, the largest class first, beside the truth where it is known."""
    from matplotlib.figure import Figure

    from tfpipeline import pictures

    counts = np.bincount(first.answers, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    figure = Figure(figsize=(11, 4), layout="constrained")
    axis = figure.subplots()
    place = np.arange(len(names))
    axis.bar(place, counts[order], width=1 if len(names) > MOST_BARS else 0.8, label="labels")
    if truth is not None:
        true_counts = np.bincount(truth[truth >= 0], minlength=len(names))[order]
        axis.plot(place, true_counts, ".", color="black", markersize=4, label="truth")
    axis.axhline(counts.mean(), color="gray", linestyle="--", linewidth=1, label="mean")
    unused = int(np.count_nonzero(counts == 0))
    axis.set(ylabel="images", title=f"images by their first answer; {unused:,} of {len(names):,} classes have none")
    if len(names) <= MOST_BARS:
        axis.set_xticks(place, [names[index] for index in order], rotation=60, ha="right", fontsize=8)
    else:
        axis.set_xlabel(f"class, from {names[order[0]]} ({counts[order[0]]:,} images) down")
    axis.legend()
    pictures.save(figure, out / "class_balance.png")


def write_reliability(out, first, references, temperature, is_truth) -> tuple[float | None, float | None]:
    """Writes reliability.png, the confidence at the fitted temperature against the truth or the second opinions.

    Returns:
        The expected calibration errors at temperature 1 and at the fitted one; None where there is no such thing.
    """
    from labeling.labels import calibration_error
    from tfpipeline import pictures

    if not references:
        return None, None
    right = np.concatenate([(first.answers == reference)[reference >= 0] for reference in references])
    confidence, errors = None, []
    for opinion in (first, None if temperature is None else first.at(temperature)):
        if opinion is None:
            errors.append(None)
            continue
        confidence = np.concatenate([opinion.confidence[reference >= 0] for reference in references]).clip(0, 1)
        errors.append(calibration_error(confidence, right))
    title = "against the truth" if is_truth else "against the second opinions"
    title += "" if temperature is None else f", T = {temperature:.2f}"
    pictures.save(pictures.reliability_diagram(confidence, right, title=title), out / "reliability.png")
    return tuple(errors)


def write_confusion(out, first, truth, names) -> None:
    """Writes confusion.png: the classes with the most wrong answers, all others as one."""
    from labeling.labels import worst_classes
    from tfpipeline import pictures

    chosen, matrix = worst_classes(first.answers, truth, len(names), WORST_CLASSES)
    if len(chosen):
        shown = [*(names[index] for index in chosen), "all others"]
        figure = pictures.confusion_matrix(matrix, shown, f"the {len(chosen)} classes that are confused most")
        pictures.save(figure, out / "confusion.png")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
