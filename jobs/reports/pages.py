"""The pages of a label store, an evaluation and a sweep; that of a run is in jobs.reports.run."""

import csv
import pathlib
import shlex

import numpy as np

from jobs.reports import evaluation, page, run, sweep
from jobs.reports.labels import draw_balance
from jobs.training import labeling_command
from labeling.labels import LabelStore, Opinion, open_labels, opinions_of, quality, read_flags, trust
from tfpipeline import pictures
from tfpipeline.images import ImageFlags, ImageStore, open_images, short_name, spread_evenly
from tfpipeline.system import Console, UserError, flags, sha256_of_file, unescape_formula
from tfpipeline.training import reliability, run_directory

SAMPLES = 24
_PER_CLASS = "per_class.csv"
# By what the best run of a sweep is told, the first that is known.
_SCORES = {"validation_top1": "true top-1", "agreement_top1": "agreement with the teacher"}


def describe_labels(directory: pathlib.Path, console: Console) -> page.Page:
    """The page of a label store; it shows images where these can be opened as they were labeled.

    Args:
        directory: of the labels.
        console: where progress and what is left out are told.

    Raises:
        UserError: images have no labels, or something is damaged.
    """
    store = open_labels(directory)
    spec = store.spec
    images = _labeled_images(store, console)
    opinions = opinions_of(store.read_all(), spec.classes, spec.views)
    label, first = opinions[0], opinions[0].answers.first
    truth = None if images is None else quality.known_truth(spec, images, console)
    names = [short_name(name) for name in quality.class_names(spec, () if images is None else images.classes)]
    figures = quality.figures(label.answers, truth)
    size = sum(path.stat().st_size for path in directory.glob("labels-*.npz"))
    teachers = " and ".join(f"{each['name']} (enlarged: {each['interpolation']})" for each in spec.teachers)
    shares = {"true top-1": figures["top1"], "true top-5": figures["top5"]}
    headline = [
        *((name, f"{value:.1%}") for name, value in shares.items() if value is not None),
        ("mean probability of the first answer", f"{figures['mean_top_probability']:.1%}"),
        ("images labeled", f"{spec.count:,}"),
        ("classes answered", f"{figures['classes_answered']:,} of {spec.classes:,}"),
        ("size on disk", page.text_of_size(size)),
    ]
    sections = [] if images is None else _labeled_samples(images, label, trust(label, opinions[1:]), truth, names)
    counts = np.bincount(first, minlength=len(names))
    most = [f"{names[index]} {counts[index]:,}" for index in np.argsort(-counts, kind="stable")[:3]]
    balance = page.Picture(
        pictures.png(draw_balance(first, truth, names)),
        f"Bars of the images by their first answer, the most frequent first: {', '.join(most)}",
    )
    sections.append(page.Section("Classes", pictures=[balance], table=_class_table(label, truth, names)))
    if truth is not None:
        sections.append(_calibration(label, truth))
    sections.append(page.Section("How they were made", table=page.Table(_facts(store))))
    command = labeling_command(str(directory))
    about = f"Labels by {teachers}."
    return page.Page(f"Labels {directory.resolve().name}", about, headline, [command] if command else [], sections)


def _labeled_images(store: LabelStore, console) -> ImageStore | None:
    """The images of labels, by the flags that these were made with; None, having said why, where that cannot be."""
    told = read_flags(store.directory)
    if told is None:
        console.say("these labels do not tell of which images they are, as an older version made them: none are shown")
        return None
    known = {field.name for field in flags.fields_of(ImageFlags)}
    try:
        wanted = flags.from_flat(ImageFlags, {name: value for name, value in told.items() if name in known})
        images = open_images(wanted, console)
        note = store.check_same_images(images)
    except UserError as error:
        console.say(f"no images are shown: {error}")
        return None
    if note:
        console.say(note)
    return images


def _labeled_samples(images, label: Opinion, trusted, truth, names):
    """Images spread over all of them, and those whose labels are trusted least, with the answers to them."""
    legend = {"unknown": "nobody says whether the teacher is right"}
    if truth is not None:
        legend = {"right": "the teacher is right", "wrong": "it is wrong", "unknown": "the truth is not known"}
    who = "First the truth, then T" if truth is not None else "No truth is known. T"
    chosen = {
        "Answers": (f"{who}, the answer of the teacher with its probability.", spread_evenly(len(trusted), SAMPLES)),
        "Least trusted": (
            "The images whose answers have the least probability, as a mean over all stored views.",
            np.argsort(trusted, kind="stable")[:SAMPLES],
        ),
    }
    sections, number = [], 0
    for title, (text, positions) in chosen.items():
        samples = []
        for i in positions.tolist():
            known, answer = truth is not None and truth[i] >= 0, label.answers.first[i]
            color = pictures.PLAIN if not known else pictures.RIGHT if truth[i] == answer else pictures.WRONG
            lines = [*([names[truth[i]]] if known else []), f"T {label.answers.confidence[i]:.0%} {names[answer]}"]
            number += 1
            samples.append(page.sample_of(images.images[i], color, lines, number))
        sections.append(page.Section(title, [text], legend, samples))
    return sections


def _class_table(label: Opinion, truth, names):
    """A row for each class that is answered or true."""
    first, count = label.answers.first, len(names)
    counts = np.bincount(first, minlength=count)
    mean = np.bincount(first, label.answers.confidence, count) / np.maximum(counts, 1)
    columns = ["class", "images", "share", "mean probability"]
    present = counts > 0
    if truth is not None:
        of_class = np.bincount(truth[truth >= 0], minlength=count)
        right = np.bincount(truth[truth == first], minlength=count)
        columns += ["truly of the class", "of these answered so"]
        present |= of_class > 0
    rows = []
    for index in sorted(np.flatnonzero(present), key=lambda index: -counts[index]):
        row = [names[index], f"{counts[index]:,}", f"{counts[index] / counts.sum():.1%}"]
        row.append(f"{mean[index]:.1%}" if counts[index] else "-")
        if truth is not None:
            row += [f"{of_class[index]:,}", f"{right[index] / of_class[index]:.1%}" if of_class[index] else "-"]
        rows.append(row)
    return page.Table(rows, columns)


def _calibration(label: Opinion, truth):
    known = truth >= 0
    found = reliability(label.answers.confidence[known].clip(0, 1), (label.answers.first == truth)[known])
    diagram = pictures.reliability_diagram(found.counts, found.accuracy, found.error, "against the truth")
    alt = f"Share of right answers at each probability; they differ by {found.error:.1%} on average"
    return page.Section("Calibration", [f"{alt}."], pictures=[page.Picture(pictures.png(diagram), alt)])


def _facts(store: LabelStore):
    """What the spec of labels says, for people."""
    spec = store.spec
    rows = []
    for teacher in spec.teachers:
        rows.append(
            ("teacher", f"{teacher['name']}, {str(teacher.get('fingerprint'))[:12]}, weight {teacher['weight']:g}")
        )
        rows.append(("its interpolation", teacher["interpolation"]))
    rows += [
        ("classes", f"{spec.classes:,}" + (f", of {spec.subset_of:,} of the teacher" if spec.subset else "")),
        ("answers kept", f"{spec.top_k:,} of each image"),
        ("views", ", ".join(spec.views)),
        ("arithmetic", f"{spec.precision}, by {spec.runtime}"),
        ("adaptation", "none" if spec.adaptation is None else spec.adaptation.method),
        ("images", f"{spec.count:,}, {spec.images_sha256[:12]}"),
    ]
    return rows


def describe_evaluation(directory: pathlib.Path, console: Console) -> page.Page:
    """The page of an evaluation.

    Args:
        directory: of the evaluation.
        console: where it is told what is left out.

    Raises:
        UserError: it is of another network than its run has now, or damaged.
    """
    place = run_directory.run_of_evaluation(directory)
    said = run_directory.read_evaluation(directory, place) or {}
    saved = run_directory.read_config(place) or {"flags": {}}
    told, commands = said.get("flags"), run.commands_of(saved["flags"], console)
    if told:
        words = flags.command_line({**told, "run": str(place)})
        commands.append(shlex.join(["python", "-m", "jobs.evaluate", *words]))
    sections = run.sections_of_evaluation(evaluation.pictures_of_network(directory, place, console))
    table = directory / _PER_CLASS
    if said.get("files", {}).get(_PER_CLASS) and table.is_file():
        if said["files"][_PER_CLASS] == sha256_of_file(table):
            sections.append(page.Section("Classes", [_counted(said)], table=_read_table(table)))
        else:
            console.say(f"{table} is not as jobs.evaluate wrote it, and is left out; jobs.evaluate writes it again")
    figures = {**run_directory.read_figures(place), **said}
    about = f"The network {run.made_from(saved, said.get('step') or 0)}, on images {str(said.get('images'))[:12]}."
    head = run.headline(figures, {}, place / run_directory.MODEL)
    return page.Page(
        f"Evaluation of {place.resolve().name}", about, head, commands, [*sections, *run.environment(saved)]
    )


def _counted(said):
    """What "right" means in the table of an evaluation."""
    return (
        "Right is what the truth says." if said.get("top1") is not None else "No truth: right is what the teacher says."
    )


def _read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return page.Table(
        [[unescape_formula(cell) for cell in row] for row in rows], [name.replace("_", " ") for name in head]
    )


def describe_sweep(directory: pathlib.Path, console: Console) -> page.Page:
    """The page of a sweep: its runs in a table, and their curves.

    Args:
        directory: of the sweep.
        console: where it is told what is left out.

    Raises:
        UserError: a run, or what the sweep says of its runs, is damaged.
    """
    origin, runs = sweep.read_origin(directory), []
    for name, changes in origin["runs"].items():
        place = directory / name
        if not (place / run_directory.FIGURES).is_file():
            console.say(
                f"{place} has no {run_directory.FIGURES}, and is left out: it is gone, or not trained to its end"
            )
            continue
        runs.append(sweep.read_run(place, changes, run_directory.read_figures(place)))
    if not runs:
        raise UserError(f"no run of {directory} is there any more; the same jobs.experiment command trains them again")
    header, _, cells = sweep.tabulate(runs)
    seconds = sum(one.figures.get("seconds") or 0 for one in runs)
    headline = [("runs", f"{len(runs):,}"), ("seconds of training", f"{seconds:,.0f}")]
    for key, what in _SCORES.items():
        scores = {one.name: one.figure(key) for one in runs if one.figure(key) is not None}
        if scores:
            best = max(scores, key=lambda name: scores[name])
            headline = [(f"highest {what}: {best}", f"{scores[best]:.1%}"), *headline]
            break
    sections = [
        page.Section("Runs", sweep.notes_on(runs), table=page.Table(cells, header)),
        page.Section("Curves", pictures=page.pictures_of(sweep.panels_of(runs))),
    ]
    return page.Page(origin["about"], origin["scale"], headline, [origin["command"]], sections)
