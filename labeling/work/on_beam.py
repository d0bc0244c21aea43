"""The labeling plan on Apache Beam: the missing shards are the elements, and any worker labels any of them.

A shard is written all at once under a name that carries its content's hash, so a bundle that is tried again, done twice
or lost half-way does no harm: the store ends as the one that a single process would have written. Whoever starts the
pipeline has verified the images and the teachers; a worker gets plain values and opens and loads everything itself.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import pathlib
import signal
import threading
import uuid
from collections.abc import Sequence

from labeling.enlarging import Expert
from labeling.labels import LabelStore, Span, images_in, open_labels
from labeling.teachers import load_teacher
from labeling.work import labeler
from labeling.work.answerer import Answerer, over_all_classes
from labeling.work.labeler import SAVED, Calls
from labeling.work.runtimes import Way
from labeling.work.sample import read_sample
from tfpipeline.batches import concatenate
from tfpipeline.images import ImageStore, map_images, parse_joined
from tfpipeline.system import PARTIAL, SILENT, Console, FlagError, StopRequest, UserError, open_locked

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions, WorkerOptions
    from apache_beam.utils.shared import Shared
except ImportError as error:
    raise UserError(f"--runner beam needs apache-beam ({error}): pip install 'apache-beam>=2.77,<3'") from error

SECONDS_BETWEEN_LOOKS = 1.0  # at the store and for signals, while Beam works
_LOCAL_WORKER = "run_worker"  # how DirectRunner names the threads that wait for its worker processes


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a worker must know.

    Attributes:
        images: directory of the image store.
        labels: directory of the label store; its spec says how the teachers are fed, enlarged for, weighted and read.
        teachers: their specs, in the order of the label store's spec.
        trust: whether they may do more than compute.
        batch_size: images per step.
        ticket: no further shard is begun once this file is gone.
    """

    images: str
    labels: str
    teachers: tuple[str, ...]
    batch_size: int
    trust: bool = False
    ticket: str = ""


def plan_of(
    images: ImageStore, store: LabelStore, experts: Sequence[Expert], batch_size: int, trust: bool = False
) -> Plan:
    """The plan of labeling; its ticket is written when the work begins.

    Args:
        images: in a directory that the workers see under the same name.
        store: where the shards go, likewise.
        experts: the teachers that the store's spec describes.
        batch_size: images per step of a teacher.
        trust: whether the teachers may do more than compute.
    """
    return Plan(
        images=str(images.directory.resolve()),
        labels=str(store.directory.resolve()),
        teachers=tuple(expert.teacher.spec for expert in experts),
        batch_size=batch_size,
        trust=trust,
    )


class Worker:
    """What a worker process keeps between shards: the teachers, the images and the label store.

    Raises:
        UserError: this machine has other images, or another teacher, than the labels are to be of.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.store = open_labels(plan.labels)
        spec = self.store.spec
        self.images = map_images(pathlib.Path(plan.images), spec.images_sha256)
        experts = [_expert(*pair, spec.subset, plan.trust) for pair in zip(plan.teachers, spec.teachers, strict=True)]
        views = [parse_joined(name) for name in spec.views]
        way = Way(spec.runtime, plan.batch_size, spec.precision)
        if spec.adaptation is None:
            self.answer = Answerer(experts, views, spec.top_k, self.images.shape[1:], way)
        else:
            whole = Answerer(over_all_classes(experts), views, spec.top_k, self.images.shape[1:], way)
            self.answer = whole.adapted(spec)
        known = None if spec.adaptation is None else read_sample(self.store.directory, spec)
        self.calls = Calls(plan.batch_size, self.answer.parallel, known.answer_from(self.answer) if known else None)

    def label(self, span: Span) -> None:
        """Writes the shard of a span, unless it is there already or nobody wants it any more."""
        if self.store.is_done(span) or not pathlib.Path(self.plan.ticket).exists():
            return
        batches = labeler.answer_batches(self.images, [span], self.answer, self.calls)
        answers = concatenate([answers for _, answers in batches])
        labeler.check_numbers(answers, span)
        self.store.write_shard(span, answers)


class LabelShard(beam.DoFn):
    """(first, last) -> nothing, but a shard in the label store."""

    def __init__(self, plan: Plan):
        self._plan, self._shared = plan, Shared()

    def setup(self) -> None:
        """Loads the teachers once for all threads of a worker process."""
        self._worker = self._shared.acquire(lambda: Worker(self._plan))

    def process(self, span: tuple[int, int]) -> None:
        """Labels one span."""
        self._worker.label(Span(*span))


def options_of(given: tuple[str, ...]) -> PipelineOptions:
    """Beam's own options.

    Args:
        given: each "NAME=VALUE", or "NAME" of a switch; the dashes before it, as Beam's documents write them, may stay.

    Raises:
        FlagError: Beam has no such option, or refuses its value.
    """
    options = PipelineOptions(["--" + option.removeprefix("--") for option in given])
    known = PipelineOptions([]).get_all_options()
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
        except SystemExit as end:  # Beam reads its options with argparse.
            raise FlagError(f"--beam-option: {said.getvalue().splitlines()[-1].partition('error: ')[2]}") from end
    for name in sorted(unknown):
        similar = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise FlagError(f"--beam-option {name}: Apache Beam {beam.__version__} has no such option{hint}")
    # Without this DirectRunner tries Prism first, which downloads a program and does not heed direct_num_workers.
    options.view_as(TypeOptions).allow_unsafe_triggers = True
    logs = options.view_as(WorkerOptions)
    logs.default_sdk_harness_log_level = logs.default_sdk_harness_log_level or "ERROR"
    return options


def open_pipeline(given: tuple[str, ...]) -> beam.Pipeline:
    """An empty pipeline with the options of `options_of`.

    Raises:
        FlagError: as `options_of`; or an option is missing, or a package, that the runner needs.
    """
    try:
        return beam.Pipeline(options=options_of(given))
    except (ValueError, ImportError) as error:
        raise FlagError(f"--beam-option: {error}") from error


def label(pipeline: beam.Pipeline, plan: Plan, store: LabelStore, stop: StopRequest, console: Console = SILENT) -> int:
    """Labels what has no labels yet, by the workers of a pipeline.

    Args:
        pipeline: of `open_pipeline`.
        plan: of `plan_of`.
        store: its label store.
        stop: a request ends the work of each worker after its shard.
        console: where progress goes.

    Returns:
        Number of images that had no labels before and have some now.

    Raises:
        Stopped: a signal came; the finished shards are on disk.
        UserError: Beam gave up; the finished shards are on disk.
    """
    missing = store.missing_spans()
    with _Ticket(store.directory) as ticket, _watch(ticket, store, missing, stop, console):
        work = LabelShard(dataclasses.replace(plan, ticket=str(ticket.path)))
        elements = [tuple(span) for span in missing]  # Beam has a coder of its own for named tuples.
        pipeline | beam.Create(elements) | beam.Reshuffle() | "Label" >> beam.ParDo(work)
        try:
            pipeline.run().wait_until_finish()
        except RuntimeError as error:  # Beam's way to hand over what a worker raised.
            stop.raise_if_requested(SAVED)
            raise UserError(f"Beam gave up ({_cause(error)}); {SAVED}; run the same command again to go on") from error
    stop.raise_if_requested(SAVED)
    return images_in(missing) - images_in(store.missing_spans())


def _cause(error):
    """The line of a worker's traceback that tells what happened: Beam marks it, and its own troubles may follow."""
    lines = str(error).strip().splitlines()
    return next((line for line in reversed(lines) if "[while running" in line), lines[-1])


def _expert(teacher_spec, described, subset, trust):
    """The teacher as the label store's spec describes it.

    Raises:
        UserError: what this machine has under its name is another teacher.
    """
    classes = described["outputs"] - described["background"]
    teacher = load_teacher(teacher_spec, described["range"], described["size"], classes, trust)
    if teacher.fingerprint != described["fingerprint"]:
        raise UserError(
            f"teacher {teacher_spec} is another one on this worker ({teacher.fingerprint[:12]}) than in the label "
            f"store ({described['fingerprint'][:12]}); put the same files on every worker"
        )
    own = tuple(map(tuple, described.get("class_map", ())))
    teacher = dataclasses.replace(teacher, subset=subset, class_map=own)
    return Expert(teacher, described["interpolation"], described["weight"])


class _Ticket:
    """A file in the label store while the work of a pipeline is wanted.

    It is locked: when this process is killed, the next one that labels into the directory removes it
    (tfpipeline.system.remove_leftovers), and the workers that were left behind give way.
    """

    def __init__(self, directory: pathlib.Path):
        self.path = directory.resolve() / f".beam.{uuid.uuid4().hex[:8]}{PARTIAL}"

    def __enter__(self):
        self._file = open_locked(self.path)
        return self

    def __exit__(self, *_):
        self.withdraw()
        self._file.close()

    def withdraw(self) -> None:
        """Lets the workers end after the shards that they are at."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _watch(ticket, store, missing, stop, console):
    """A context in which a thread shows the progress and hands a stop request on, and no dead worker is waited for."""
    total, ended = store.spec.count, threading.Event()
    before = _count_shards(store)

    def watch(advance):
        seen, left, last = 0, images_in(missing), False
        while not last:
            last = ended.wait(SECONDS_BETWEEN_LOOKS)
            if stop.requested:
                ticket.withdraw()
            labeled = min((_count_shards(store) - before) * store.spec.shard_size, left)
            if labeled > seen:
                advance(labeled - seen)
            seen = labeled

    with (
        console.bar("labeling", total, "image", done=total - images_in(missing)) as advance,
        _raise_for_dead_workers(ticket, stop),
    ):
        thread = threading.Thread(target=watch, args=(advance,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _count_shards(store):
    return sum(1 for _ in store.directory.glob("labels-*.npz"))


@contextlib.contextmanager
def _raise_for_dead_workers(ticket, stop):
    """A context in which the death of one of DirectRunner's worker processes, for which it would wait for ever, raises.

    Beam tells of it only by an exception in a thread of its own; a signal carries it to the main thread, which waits.
    """

    def signal_main_thread(failure):
        if failure.thread and failure.thread.name == _LOCAL_WORKER:
            causes.append(failure.exc_value)
            os.kill(os.getpid(), signal.SIGUSR1)
        else:
            previous_hook(failure)

    def end_work(*_):
        ticket.withdraw()
        stop.raise_if_requested(SAVED)
        raise UserError(
            f"a worker process of Beam died ({causes[0]}; -9 and 137 often mean that memory ran out); {SAVED}; run the "
            "same command again, perhaps with fewer workers, to go on"
        )

    causes = []
    previous_hook, threading.excepthook = threading.excepthook, signal_main_thread
    previous_handler = signal.signal(signal.SIGUSR1, end_work)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous_handler)
        threading.excepthook = previous_hook
