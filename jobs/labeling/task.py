"""The task of jobs.label_imagenet64: what its flags make of teachers, ways to enlarge and views."""

import dataclasses
import pathlib

import numpy as np

from tfpipeline.system import FlagError, UserError


def load_experts(config, images, console) -> list:
    """The teachers, each with its interpolation and weight.

    Raises:
        FlagError: they answer over different classes.
    """
    from labeling.enlarging import Expert
    from labeling.labels import count_alike
    from labeling.teachers import load_teacher

    def each(values, default):
        """The values of a flag, one for each teacher."""
        return (values or (default,)) * (1 if len(values) > 1 else len(config.teacher))

    options = zip(
        config.teacher,
        (None if name == "auto" else name for name in each(config.teacher_range, "auto")),
        each(config.teacher_size, None),
        each(config.teacher_classes, None),
        each(config.interpolation, "bilinear"),
        each(config.weight, 1.0),
        strict=True,
    )
    experts = []
    for spec, range_name, size, classes, interpolation, weight in options:
        teacher = restricted(config, load_teacher(spec, range_name, size, classes), images)
        experts.append(Expert(teacher, interpolation, weight))
    if any(not count_alike(experts[0].teacher, expert.teacher) for expert in experts):
        counts = ", ".join(f"{expert.teacher.name} {expert.teacher.feeding.classes:,}" for expert in experts)
        raise FlagError(
            f"teachers with other classes, or in other orders, cannot answer together ({counts}); label with each alone"
        )
    experts = with_interpolations(config, experts, images, console)
    for expert in experts:
        console.say(f"{expert.teacher.note}; enlarged by {expert.interpolation}")
    return experts


def restricted(config, teacher, images):
    """The teacher, over the classes of --classes alone where it is given."""
    if config.classes is None:
        return teacher
    from labeling.teachers import class_subset

    return class_subset.restrict(teacher, config.classes, images.classes)


def with_interpolations(config, experts, images, console) -> list:
    """The experts, "auto" replaced by what the labels that are there already have, else by what is recommended."""
    from labeling.enlarging import comparison, views
    from labeling.labels import SPEC_FILE, open_labels

    methods = [expert.interpolation for expert in experts]
    if comparison.AUTO not in methods:
        return experts
    out = pathlib.Path(config.out)
    labeled_by = ()
    if (out / SPEC_FILE).exists():
        labeled_by = open_labels(out).spec.teachers
    if len(labeled_by) == len(experts):
        there = [teacher["interpolation"] for teacher in labeled_by]
        methods = [stored if asked == comparison.AUTO else asked for asked, stored in zip(methods, there, strict=True)]
    else:
        # The views that are stored apart do not answer together.
        together = views_of(config, images)[0].split(views.JOIN)
        methods = comparison.recommend_together(experts, images.images, together, config.batch_size, console)
    return [dataclasses.replace(expert, interpolation=method) for expert, method in zip(experts, methods, strict=True)]


def views_of(config, images) -> tuple[str, ...]:
    """The views to store: their mean as one, or each."""
    from labeling.enlarging import views

    names = [name.strip() for name in config.views.split(",")]
    for name in names:
        views.check(name, *images.images.shape[1:3])
    return tuple(names) if config.keep_views else (views.JOIN.join(names),)


def check_gate(config, experts, spec, images, console) -> None:
    """Asks the gate about every teacher; says what it found."""
    if config.no_gate:
        return
    from labeling.labels import quality
    from labeling.work import gate, runtime_choice

    batch_size = config.batch_size or runtime_choice.DEFAULT_BATCH_SIZE
    truth, _ = quality.truth_in_classes_of(spec, images)
    classes = 0 if spec.subset else len(images.classes)
    for expert in experts:
        subset = expert.teacher.subset
        known = np.array([*subset, -1])[truth] if subset and truth is not None else truth
        console.say(gate.check(expert, images.images, known, classes, batch_size))


def known_way(config) -> tuple[str | None, int | None]:
    """(runtime, batch size) as the flags say, else those of the labels that are there; None for what is to be measured.

    Raises:
        UserError: OpenVINO is asked for, or made the labels that are there, and is not installed.
    """
    from labeling.labels import SPEC_FILE, open_labels
    from labeling.work import runtime_choice, runtimes

    out = pathlib.Path(config.out)
    runtime, batch_size = None if config.runtime == "auto" else config.runtime, config.batch_size
    if runtime == "openvino":
        runtimes.import_openvino()
    if (out / SPEC_FILE).exists():
        labeled = open_labels(out).spec
        if runtime is None and labeled.runtime not in runtimes.installed():
            raise UserError(
                f"labels {out} were made by OpenVINO, which is not installed: pip install openvino, or choose another "
                "--out"
            )
        return runtime or labeled.runtime, batch_size or labeled.batch_size or runtime_choice.DEFAULT_BATCH_SIZE
    if config.runner == "beam":  # Its workers run on other machines than this one.
        return runtime or runtimes.RUNTIMES[0], batch_size or runtime_choice.DEFAULT_BATCH_SIZE
    return runtime, batch_size


def answerer_of(config, experts, spec, images, console):
    """Who answers as the labels' spec says: by the runtime and in batches that are known, else those measured now."""
    from labeling.work import Answerer, runtime_choice
    from tfpipeline.images import default_cache

    offered = runtime_choice.ways(*known_way(config), console)
    runtime, batch_size = offered[0]
    shape = images.images.shape[1:]
    base = Answerer(experts, spec.views, spec.top_k, shape, batch_size, runtime, spec.precision)
    cache = pathlib.Path(config.cache or default_cache())
    return runtime_choice.fastest(base, offered, images.images, spec.to_json(), cache, console)
