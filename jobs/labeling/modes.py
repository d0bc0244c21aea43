"""What jobs.label_imagenet64 does with its task: label, verify, or plan."""

import time

from jobs.labeling.adapting import begin_labels, print_adaptation, remove_sample
from jobs.labeling.status import is_work_left
from jobs.labeling.task import Task
from labeling.labels import SPEC_FILE, LabelStore, create_labels, open_labels, quality, verification, write_flags
from labeling.work import distributed, labeler, runtime_choice, sample, shard_worker
from tfpipeline.images import short_name
from tfpipeline.system import StopRequest, print_figures, print_table

CLASSES_PRINTED = 10


def label(task: Task) -> dict:
    """Labels what has no labels yet, prints how good all labels are, and returns the figures.

    Raises:
        UserError: the gate turns a teacher away, or an engine gave up.
        Stopped: a signal came; the finished shards are on disk.
    """
    labeled, seconds = 0, 0.0
    with StopRequest() as stop:
        # Where the adaptation is still to be found, labels that are there by now are of another that began with us.
        is_begun = task.method == "none" and (task.out / SPEC_FILE).exists()
        store = create_labels(task.out, task.spec) if is_begun else None
        if store is None or is_work_left(store, task.config.mode.repair, task.console):
            task.check_gate()
            work = _label_here if task.engine is None else _label_by_workers
            store, labeled, seconds = work(task, stop)
    quality_figures, adapt = print_quality(task, store), print_adaptation(task, store.spec)
    remove_sample(task.out)
    return {
        "images": len(task.images),
        "labeled": labeled,
        **task.images.counts,
        "seconds": round(seconds, 3),
        "images_per_second": round(labeled / seconds, 1) if labeled else None,
        **quality_figures,
        "adapt": adapt,
        "out": task.config.labels.out,
    }


def _label_here(task, stop) -> tuple[LabelStore, int, float]:
    """(the labels, images labeled now, seconds that it took) in this process."""
    answer, start = task.answerer(), time.monotonic()
    store, answer = begin_labels(task, answer, stop)
    write_flags(task.out, task.flags_to_repeat(store.spec))
    calls = labeler.Calls(answer.images_per_call, answer.parallel)
    if store.spec.adaptation is not None:
        answer = answer.adapted(store.spec)
        known = sample.read_sample(task.out, store.spec)
        calls = calls._replace(answer_from=known.answer_from(answer) if known else None)
    labeled = labeler.label(task.images.images, store, answer, calls, stop, task.console, task.images.names)
    return store, labeled, time.monotonic() - start


def _label_by_workers(task, stop) -> tuple[LabelStore, int, float]:
    """The same by the workers of an engine."""
    start = time.monotonic()
    store = (
        create_labels(task.out, task.spec) if task.method == "none" else begin_labels(task, task.answerer(), stop)[0]
    )
    write_flags(task.out, task.flags_to_repeat(store.spec))
    trust = task.config.teachers.trust_teacher
    plan = shard_worker.plan_of(task.images, store, task.experts, task.batch_size, trust)
    labeled = distributed.label(task.engine, plan, store, stop, task.config.work.worker_timeout, task.console)
    return store, labeled, time.monotonic() - start


def verify(task: Task) -> dict:
    """Checks every shard, asks the teachers about a sample of the images again, and returns the figures.

    Raises:
        UserError: labels are missing, damaged, or not what the teachers answer.
    """
    store = open_labels(task.out)
    verification.check_whole(store, verification.status(store))
    answer = task.answerer()
    sample = task.config.mode.sample
    again = verification.recompute(task.images.images, store, answer, answer.way.batch_size, sample)
    return {"images": len(task.images), **again, **print_quality(task, store), "out": task.config.labels.out}


def plan(task: Task) -> dict:
    """Prints what labeling would do, its speed measured on a few batches, and returns the figures.

    Raises:
        UserError: the gate turns a teacher away.
    """
    task.check_gate()
    answer, spec = task.answerer(), task.spec
    left = spec.count
    if (task.out / SPEC_FILE).exists():
        left = verification.status(open_labels(task.out)).figures()["missing"]
    rate = runtime_choice.images_per_second(answer, task.images.images)
    figures = {
        "images": len(task.images),
        "to_label": left,
        "images_per_second": round(rate, 1),
        "seconds": round(left / rate, 1),
        "bytes": left * len(spec.views) * (4 * spec.top_k + 2),
    }
    print_figures(figures)
    return {**figures, "out": task.config.labels.out}


def print_quality(task: Task, store: LabelStore) -> dict:
    """Prints how good the labels are, and returns the figures."""
    answers = store.read_all().view(0)
    truth = quality.known_truth(store.spec, task.images, task.console)
    figures = quality.figures(answers, truth)
    print_figures(figures)
    histogram = quality.class_histogram(answers, store.spec.classes)
    names = quality.class_names(store.spec, task.images.classes)
    rows = [
        (f"  {short_name(names[index])[:21]}", f"{histogram[index]:,}", f"{histogram[index] / histogram.sum():.2%}")
        for index in (-histogram).argsort(kind="stable")[:CLASSES_PRINTED]
    ]
    print_table([("images by first answer", "images", "share"), *rows])
    return figures
