"""What a worker of any engine does: it labels one span after another, and knows nothing of the others.

A shard is written all at once under a name that carries its content's hash, so work that is tried again, done twice or
lost half-way does no harm: the store ends as the one that a single process would have written. Whoever starts the work
has verified the images and the teachers; a worker gets plain values and opens and loads everything itself.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import socket
from collections.abc import Sequence

import tensorflow as tf

from labeling.enlarging import Expert
from labeling.labels import LabelStore, Span, open_labels
from labeling.teachers import load_teacher
from labeling.work import labeler
from labeling.work.answerer import Answerer, over_all_classes
from labeling.work.labeler import Calls
from labeling.work.runtimes import Way
from labeling.work.sample import read_sample
from tfpipeline.batches import concatenate
from tfpipeline.images import ImageStore, map_images, parse_joined
from tfpipeline.system import UserError

_ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a worker must know.

    Attributes:
        images: directory of the image store.
        labels: directory of the label store; its spec says how the teachers are fed, enlarged for, weighted and read.
        teachers: their specs, in the order of the label store's spec.
        trust: whether they may do more than compute.
        batch_size: images per step.
        ticket: no further shard is begun once this file is gone; each batch that is answered touches it.
        versions: of `find_versions`, where the work was started.
    """

    images: str
    labels: str
    teachers: tuple[str, ...]
    batch_size: int
    trust: bool = False
    ticket: str = ""
    versions: tuple[tuple[str, str], ...] = ()


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
        versions=find_versions(),
    )


def find_versions() -> tuple[tuple[str, str], ...]:
    """(what computes the answers, which version of it this machine has), with the hash of this program's own code."""
    code = hashlib.sha256()
    for room in ("labeling", "tfpipeline"):
        for path in sorted((_ROOT / room).rglob("*.py")):
            code.update(path.read_bytes())
    return ("tensorflow", tf.__version__), ("the code of this program", code.hexdigest()[:12])


class Worker:
    """What a worker process keeps between shards: the teachers, the images and the label store.

    Raises:
        UserError: this machine has other images, or another teacher, than the labels are to be of, or another version
            of what computes them; names the machine.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        try:
            self._open()
        except UserError as error:
            raise UserError(f"the worker on {socket.gethostname()} refuses: {error}") from error

    def _open(self):
        plan, here = self.plan, dict(find_versions())
        for name, version in plan.versions:
            if here[name] != version:
                raise UserError(
                    f"{name} is {here[name]} here and {version} where the command was started; install the same "
                    "on every worker"
                )
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
        parts = []
        for _, answers in labeler.answer_batches(self.images, [span], self.answer, self.calls):
            parts.append(answers)
            show_life(self.plan)
        answers = concatenate(parts)
        labeler.check_numbers(answers, span)
        self.store.write_shard(span, answers)


def show_life(plan: Plan) -> None:
    """Touches the ticket, by which whoever started the work sees that a worker is at it."""
    with contextlib.suppress(OSError):  # It is gone where nobody wants the work any more.
        os.utime(plan.ticket)


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
