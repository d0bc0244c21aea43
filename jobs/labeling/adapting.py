"""How jobs.label_imagenet64 comes to the adaptation of its labels, and what it says of it."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from jobs.labeling.task import Task, choose_adaptation
from labeling.labels import (
    SPEC_FILE,
    LabelSpec,
    LabelStore,
    adaptation,
    create_labels,
    open_labels,
    quality,
)
from labeling.work import Answerer, Way, sample
from tfpipeline.images import short_name
from tfpipeline.system import StopRequest, print_figures
from tfpipeline.training import TOP, share_in_top


def begin_labels(task: Task, answer: Answerer, stop: StopRequest) -> tuple[LabelStore, Answerer]:
    """(the label store, who answers as its spec says), the adaptation found first where the store is a new one.

    One process finds it, and all that label into the directory take it from the spec.

    Args:
        task: what is to be labeled.
        answer: who answers, in the way that was chosen here.
        stop: asked between the pieces of the sample.

    Raises:
        UserError: the labels that are there were made otherwise, or the teachers answer NaN.
        Stopped: a signal came.
    """
    spec = dataclasses.replace(task.spec, runtime=answer.way.runtime, batch_size=answer.way.batch_size)
    if task.method == "none":
        return create_labels(task.out, spec), answer
    with sample.take_turn(task.out, stop, task.console):
        if (task.out / SPEC_FILE).exists():
            return _join_labels(task, answer, spec)
        answers = sample.answer_sample(task.images, spec, task.out, answer, stop, task.console)
        found = adaptation.fit(answers.combined, task.method, spec.subset)
        store = create_labels(task.out, dataclasses.replace(spec, adaptation=found))
    return store, answer


def _join_labels(task, answer, spec):
    """The same, where another process has found the adaptation meanwhile, perhaps in another way of computing."""
    theirs = open_labels(task.out).spec
    found, _ = choose_adaptation(task.config.adaptation, task.out, spec)
    way = Way(theirs.runtime, theirs.batch_size or answer.way.batch_size, theirs.precision)
    spec = dataclasses.replace(spec, adaptation=found, runtime=way.runtime, batch_size=way.batch_size)
    return create_labels(task.out, spec), answer.by(way)


def print_adaptation(task: Task, spec: LabelSpec) -> dict[str, Any] | None:
    """Prints what the adaptation found and changed, and returns it; None for labels without one.

    Where the truth is known and the sample is still there, the figures have the share of its images whose true class is
    first, and among the first five, with the adaptation and without it.
    """
    if spec.adaptation is None:
        return None
    names = list(map(short_name, quality.class_names(spec, task.images.classes)))
    told = adaptation.describe(spec.adaptation, names, spec.subset) | _score_sample(task, spec)
    for line in lines_about(told):
        task.console.say(line)
    print_figures({f"adapt: {name}": value for name, value in told.items() if isinstance(value, float)})
    return told


def lines_about(told: dict[str, Any]) -> list[str]:
    """The figures of `adaptation.describe` in words."""
    lines = []
    if told["background"]:
        favored = ", ".join(f"{name} ({nats:+.1f} nats)" for name, nats in told["favored"].items())
        lines.append(f"whatever they are shown, the teachers favor {favored}: that is taken away")
    if told["prior"]:
        found = ", ".join(f"{name} ({share:.1%})" for name, share in told["most_found"].items())
        lines.append(f"{told['classes_found']:,} classes were found in the images, most of all {found}")
    lines += told["refused"]
    if "changed" in told:
        lines.append(f"so {told['changed']:.1%} of {told['images']:,} images get another first answer than without")
    return [f"adapt: {line}" for line in lines]


def _score_sample(task, spec):
    """top-k of the sample with the adaptation and without, by name; empty without truth or sample."""
    truth, known = quality.known_truth(spec, task.images), sample.read_sample(task.out, spec)
    if truth is None or known is None:
        return {}
    truth = truth[known.indices]
    plain = known.combined[:, list(spec.subset) or slice(None)]
    scores = {}
    for name, log_p in {"": spec.adaptation.apply(known.combined, spec.subset), "_without": plain}.items():
        answers = adaptation.merge_classes(log_p, spec.class_map)
        top_k = np.argsort(-answers, axis=1, kind="stable")[:, :TOP]
        scores |= {f"sample_top{k}{name}": share_in_top(top_k, truth, k) for k in (1, TOP)}
    return scores


def remove_sample(out: pathlib.Path) -> None:
    """Removes the answers to the sample once all images have labels."""
    sample.remove_sample(out)
