"""The task of jobs.label_imagenet64: what its flags make of images, teachers, ways to enlarge and ways to compute."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from jobs.labeling.config import Config, ModeFlags
from labeling.enlarging import Expert, comparison
from labeling.labels import (
    LEAST_CLASSES,
    NOT_ADAPTED,
    SPEC_FILE,
    Adaptation,
    AdaptFlags,
    AdaptMethod,
    LabelSpec,
    check_may_write,
    count_alike,
    open_labels,
    quality,
)
from labeling.teachers import TeacherFlags, class_map, class_subset, load_teacher
from labeling.work import Answerer, WorkFlags, distributed, gate, labeler, over_all_classes, runtime_choice, runtimes
from tfpipeline.images import ImageStore, View, default_cache, open_images, parse_joined
from tfpipeline.system import Console, FlagError, UserError
from tfpipeline.system.flags import change, told_by
from tfpipeline.training import note_on_bfloat16

# Flags that bear on where and how fast labels are made, not on what they are.
_OF_ONE_CALL = {
    *("out", "quiet", "batch_size", "runner", "beam_option", "worker_cores", "worker_timeout"),
    *(field.name for field in dataclasses.fields(ModeFlags)),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be labeled, by whom, and how.

    Attributes:
        config: the flags.
        images: what is to be labeled.
        experts: the teachers.
        spec: of the labels.
        method: by which the adaptation of new labels is to be found; "none" where there is none, or it is known.
        runtime: what computes the answers; None where that is to be measured.
        batch_size: images at a time; None where that is to be measured.
        engine: of labeling.work.distributed, which spreads the work with --runner beam or ray; else None.
        console: where progress goes.
    """

    config: Config
    images: ImageStore
    experts: list[Expert]
    spec: LabelSpec
    method: AdaptMethod
    runtime: str | None
    batch_size: int | None
    engine: distributed.Engine | None
    console: Console

    @property
    def out(self) -> pathlib.Path:
        """The directory of the labels."""
        return pathlib.Path(self.config.labels.out)

    def flags_to_repeat(self, spec: LabelSpec) -> dict[str, Any]:
        """The flags that make the same labels again, but for where they go; name -> value.

        Args:
            spec: of the labels.
        """
        config = self.config
        if spec.adaptation is not None and config.adaptation.adapt_from is None:
            config = change(config, adapt=spec.adaptation.method)
        return {name: value for name, value in told_by(config).items() if name not in _OF_ONE_CALL}

    def check_gate(self) -> None:
        """Asks the gate about every teacher, and says what it found.

        Raises:
            UserError: a teacher must not be used like that.
        """
        if self.config.work.no_gate:
            return
        batch_size = self.config.work.batch_size or runtime_choice.DEFAULT_BATCH_SIZE
        truth = quality.known_truth(self.spec, self.images)
        is_whole = not (self.config.teachers.classes or self.config.teachers.class_map)
        classes = len(self.images.classes) if is_whole else 0
        for expert in self.experts:
            of_network = expert.teacher.in_network(truth)
            names = self.images.names
            self.console.say(gate.check(expert, self.images.images, of_network, classes, batch_size, names))

    def answerer(self) -> Answerer:
        """Who answers as the spec says: in the way that is known, else in the one that is measured now.

        Raises:
            UserError: the runtime cannot run the teachers, or answers otherwise than TensorFlow.
        """
        offered = runtime_choice.ways(self.runtime, self.batch_size, self.spec.precision, self.console)
        views = [parse_joined(name) for name in self.spec.views]
        adaptation = self.spec.adaptation
        experts = self.experts if adaptation is None and self.method == "none" else over_all_classes(self.experts)
        base = Answerer(experts, views, self.spec.top_k, self.images.images.shape[1:], offered[0])
        cache = pathlib.Path(self.config.images.cache or default_cache())
        answer = runtime_choice.fastest(base, offered, self.images.images, self.spec.to_json(), cache, self.console)
        return answer.adapted(self.spec)


def build_task(config: Config, console: Console) -> Task:
    """The task that the flags describe; the labels that are there may be gone on with.

    Raises:
        UserError: something cannot be read or loaded, or the labels that are there were made otherwise.
        FlagError: flags do not go with each other, or with what is read.
    """
    engine = open_engine(config.work)
    out, precision = pathlib.Path(config.labels.out), config.work.precision
    if precision != "float32" and (note := note_on_bfloat16()):
        console.say(note)
    runtime, batch_size = choose_way(config.work, out)
    images = open_images(config.images, console)
    view_names = config.enlarging.view_names(*images.images.shape[1:3])
    methods = config.teachers.for_each(config.enlarging.interpolation, comparison.DEFAULT)
    experts = load_experts(config.teachers, methods, images)
    # The views that are stored apart do not answer together.
    together = parse_joined(view_names[0])
    experts = choose_interpolations(experts, images, out, together, config.work.batch_size, console)
    for expert in experts:
        console.say(f"{expert.teacher.note}; enlarged by {expert.interpolation}")
    if offers_folders(config.teachers, experts, images):
        console.say(
            f"your {len(images.classes):,} folders are classes of this teacher: --classes folders answers among them"
        )
    labels = config.labels
    spec = labeler.spec_of(images, experts, view_names, labels.top_k, labels.shard_size, precision)
    spec = dataclasses.replace(spec, runtime=runtime or spec.runtime, batch_size=batch_size)
    adaptation, method = choose_adaptation(config.adaptation, out, spec)
    spec = dataclasses.replace(spec, adaptation=adaptation)
    check_may_write(out, spec)
    return Task(config, images, experts, spec, method, runtime, batch_size, engine, console)


def open_engine(work: WorkFlags) -> distributed.Engine | None:
    """The engine of --runner; None where this process labels.

    Raises:
        UserError: its package is not installed.
        FlagError: it does not have the options that are given.
    """
    if work.runner == "beam":
        from labeling.work import on_beam  # needs Beam

        return on_beam.open_engine(work.beam_option)
    if work.runner == "ray":
        from labeling.work import on_ray  # needs Ray

        return on_ray.open_engine(work.worker_cores)
    return None


def choose_adaptation(flags: AdaptFlags, out: pathlib.Path, spec: LabelSpec) -> tuple[Adaptation | None, AdaptMethod]:
    """(the adaptation, the method by which it is still to be found): that of the labels that are there or are named.

    Args:
        flags: what is asked for.
        out: the directory of the labels.
        spec: of the labels, as it would be without adaptation.

    Raises:
        UserError: the labels that are there were adapted otherwise, or those of --adapt-from not at all, or they are of
            other teachers or classes.
        FlagError: the teachers' classes are mapped differently.
    """
    there = open_labels(out).spec if (out / SPEC_FILE).exists() else None
    if flags.adapt_from is not None:
        return _adaptation_of(flags.adapt_from, spec), "none"
    if there is None:
        counts = {teacher["outputs"] - teacher["background"] for teacher in spec.teachers}
        is_mapped = any(teacher.get("class_map") for teacher in spec.teachers)
        can = not is_mapped or (bool(spec.class_map) and len(counts) == 1)
        if flags.adapt not in (None, "none") and not can:
            raise FlagError(f"--adapt {flags.adapt} needs one --class-map for all teachers, over the same classes")
        return None, flags.adapt or ("auto" if can and spec.network_classes >= LEAST_CLASSES else "none")
    method = NOT_ADAPTED if there.adaptation is None else there.adaptation.method
    if flags.adapt not in (None, method):
        raise UserError(
            f"{out} holds labels made otherwise (adaptation: {method} there, {flags.adapt} asked for); repeat the "
            "flags that made it, or choose another --out"
        )
    return there.adaptation, "none"


def _adaptation_of(directory, spec):
    """The adaptation of the labels in a directory, which are by the same teachers over the same classes."""
    other = open_labels(directory).spec
    if other.adaptation is None:
        raise UserError(f"--adapt-from {directory}: these labels are not adapted; give --adapt none, or other labels")
    as_other = dataclasses.replace(
        other, teachers=spec.teachers, classes=spec.classes, subset=spec.subset, adaptation=None
    )
    differences = dataclasses.replace(other, adaptation=None).differences(as_other)
    if differences:
        raise UserError(
            f"--adapt-from {directory}: these labels are by other teachers, or over other classes "
            f"({'; '.join(differences)}); give labels made with the same flags, or --adapt auto"
        )
    return other.adaptation


def choose_way(work: WorkFlags, out: pathlib.Path) -> tuple[str | None, int | None]:
    """(runtime, batch size) as the flags say, else those of the labels that are there; None for what is to be measured.

    Args:
        work: the flags.
        out: the directory of the labels.

    Raises:
        UserError: OpenVINO is asked for, or made the labels that are there, and is not installed.
    """
    runtime, batch_size = None if work.runtime == "auto" else work.runtime, work.batch_size
    if runtime == "openvino":
        runtimes.import_openvino()
    if (out / SPEC_FILE).exists():
        labeled = open_labels(out).spec
        if runtime is None and labeled.runtime not in runtimes.available_runtimes():
            raise UserError(
                f"labels {out} were made by OpenVINO, which is not installed: pip install openvino, or choose another "
                "--out"
            )
        return runtime or labeled.runtime, batch_size or labeled.batch_size or runtime_choice.DEFAULT_BATCH_SIZE
    if work.runner != "local":  # Its workers run on other machines than this one.
        return runtime or runtimes.RUNTIMES[0], batch_size or runtime_choice.DEFAULT_BATCH_SIZE
    return runtime, batch_size


def load_experts(flags: TeacherFlags, methods: Sequence[str], images: ImageStore) -> list[Expert]:
    """The teachers at each of their sizes, with interpolation and weight; the sizes of a teacher share its weight.

    Args:
        flags: of the teachers.
        methods: the interpolation of each teacher.
        images: whose class names those of a teacher may be.

    Raises:
        UserError: a teacher does not load.
        FlagError: they answer over different classes.
    """
    options = zip(
        flags.teacher,
        (None if name == "auto" else name for name in flags.for_each(flags.teacher_range, "auto")),
        flags.sizes_for_each(),
        flags.for_each(flags.teacher_classes, None),
        methods,
        flags.for_each(flags.weight, 1.0),
        strict=True,
    )
    experts = [
        Expert(load_teacher(spec, range, size, classes, flags.trust_teacher), method, weight / len(sizes))
        for spec, range, sizes, classes, method, weight in options
        for size in sizes
    ]
    if flags.classes is not None:
        experts = _replace_teachers(experts, class_subset.restrict, flags.classes, images.classes)
    if flags.class_map is not None:
        experts = _replace_teachers(experts, class_map.map_classes, flags.class_map, images.classes)
    teachers = [expert.teacher for expert in experts]
    if any(not count_alike(teachers[0], teacher) for teacher in teachers):
        counts = ", ".join(f"{teacher.name} {teacher.conventions.classes:,}" for teacher in teachers)
        raise FlagError(
            f"teachers with other classes, or in other orders, cannot answer together ({counts}); label with each alone"
        )
    return experts


def _replace_teachers(experts, change, *how):
    return [dataclasses.replace(expert, teacher=change(expert.teacher, *how)) for expert in experts]


def offers_folders(flags: TeacherFlags, experts: list[Expert], images: ImageStore) -> bool:
    """Whether the images lie in folders called like some classes of all teachers, and no flag says which to answer."""
    is_told = flags.classes is not None or flags.class_map is not None
    of_folders = images.description["source"].startswith(("folder:", "archive:"))
    return (
        of_folders and not is_told and all(class_subset.has_classes_of(one.teacher, images.classes) for one in experts)
    )


def choose_interpolations(
    experts: list[Expert],
    images: ImageStore,
    out: pathlib.Path,
    views: Sequence[View],
    batch_size: int | None,
    console: Console,
) -> list[Expert]:
    """The experts, "auto" replaced by what the labels that are there already have, else by what is recommended.

    Args:
        experts: the teachers.
        images: those to be labeled.
        out: the directory of the labels.
        views: those whose answers are one mean.
        batch_size: images at a time; None for the default.
        console: where progress goes.
    """
    methods = [expert.interpolation for expert in experts]
    if comparison.AUTO not in methods:
        return experts
    there = open_labels(out).spec.teachers if (out / SPEC_FILE).exists() else ()
    if len(there) == len(experts):
        stored = [teacher["interpolation"] for teacher in there]
        methods = [found if asked == comparison.AUTO else asked for asked, found in zip(methods, stored, strict=True)]
    else:
        size = batch_size or runtime_choice.DEFAULT_BATCH_SIZE
        methods = comparison.recommend_together(experts, images.images, views, size, console)
    return [dataclasses.replace(expert, interpolation=method) for expert, method in zip(experts, methods, strict=True)]
