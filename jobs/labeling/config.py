"""The config of jobs.label_imagenet64, made of the parts that its rooms declare."""

import dataclasses

from labeling.enlarging import EnlargingFlags
from labeling.labels import AdaptFlags, LabelFlags
from labeling.teachers import TeacherFlags
from labeling.work import WorkFlags
from tfpipeline.images import ImageFlags
from tfpipeline.system import FlagError
from tfpipeline.system.flags import Flags, Range, flag, flag_name, part


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModeFlags(Flags):
    """What to do but to label."""

    status: bool = flag(False, "only tell what is labeled; loads no teacher and no images")
    dry_run: bool = flag(False, "only tell what would be done and how long it would take; writes no labels")
    verify: bool = flag(False, "only check every shard, and a sample of the answers by asking the teacher again")
    repair: bool = flag(False, "set damaged shards aside into DIR/damaged and make those ranges again")
    sample: int = flag(256, "images that --verify asks the teacher about again", metavar="N", within=Range(at_least=1))

    def __post_init__(self):
        super().__post_init__()
        modes = [flag_name(name) for name in ("status", "dry_run", "verify", "repair") if getattr(self, name)]
        if len(modes) > 1:
            raise FlagError(f"{' and '.join(modes)} do not go together; give one of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Labels images with a teacher. The same command again goes on where it stopped, or shows the figures again.

    With several teachers, or several views, the answer is their weighted geometric mean. The flags of a teacher are
    given once for all teachers or once for each, in the order of --teacher.
    """

    images: ImageFlags
    teachers: TeacherFlags
    labels: LabelFlags
    enlarging: EnlargingFlags = part(EnlargingFlags)
    adaptation: AdaptFlags = part(AdaptFlags)
    work: WorkFlags = part(WorkFlags)
    mode: ModeFlags = part(ModeFlags)
    quiet: bool = flag(False, "no progress")

    def __post_init__(self):
        super().__post_init__()
        count, teachers = len(self.teachers.teacher), self.teachers
        for name, values in {
            "interpolation": self.enlarging.interpolation,
            "weight": teachers.weight,
            "teacher_range": teachers.teacher_range,
            "teacher_size": teachers.teacher_size,
            "teacher_classes": teachers.teacher_classes,
        }.items():
            if len(values) not in (0, 1, count):
                raise FlagError(
                    f"{flag_name(name)} is given {len(values)} times for {count} teachers; "
                    "give it once, or once for each"
                )
