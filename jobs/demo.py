"""python -m jobs.demo: the whole chain on the built-in shapes, with a training that is killed half-way and resumed."""

import dataclasses
import pathlib
import shlex
import shutil
import time

from jobs import command
from jobs.processes import kill_job, run_job
from tfpipeline.system import UserError
from tfpipeline.system.flags import Flags, Range, flag

EXAMPLE = "python -m jobs.demo --out demo"
BATCH_SIZE = 50
MARK = "made-by-jobs.demo"
PARTS = ("images", "labels", "labels-valid", "run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Labels shapes with the bundled teacher, trains a student on the labels alone, kills and resumes it, reports."""

    out: str = flag(
        "demo", "directory to write into, of nothing else; what an earlier demo left there is replaced", metavar="DIR"
    )
    images: int = flag(6000, "training images to label", metavar="N", within=Range(at_least=1))
    validation_images: int = flag(1000, "held-out images", metavar="N")
    epochs: int = flag(8, "epochs of training")


def run(config: Config) -> dict:
    """Runs the commands one after another and prints a short table at the end."""
    start = time.monotonic()
    out = pathlib.Path(config.out)
    clear(out)
    images = ["--images", "shapes", "--cache", str(out / "images")]
    training = [*images, "--split", "train", "--limit", str(config.images)]
    held_out = [*images, "--split", "valid", "--limit", str(config.validation_images)]
    labels, held_out_labels, directory = str(out / "labels"), str(out / "labels-valid"), str(out / "run")
    teacher = ["--teacher", "bundled"]

    print("1. The teacher answers.", flush=True)
    labeled = call("label_imagenet64", *training, *teacher, "--out", labels)
    call("label_imagenet64", *held_out, *teacher, "--out", held_out_labels)
    print("2. A student learns from the answers alone, and is killed half-way with SIGKILL.", flush=True)
    train = [*training, "--labels", labels, "--validation-labels", held_out_labels, "--run", directory]
    train += ["--validation-split", "valid", "--validation-limit", str(config.validation_images)]
    train += ["--epochs", str(config.epochs), "--batch-size", str(BATCH_SIZE), "--learning-rate", "4e-3"]
    train += ["--save-every", "20"]
    show_command("train", train)
    half = config.epochs * (config.images // BATCH_SIZE) // 2
    killed_at = kill_job("train", train, pathlib.Path(directory) / "checkpoints", half)
    print(
        f"   killed; the newest checkpoint is of step {killed_at}. The same command with --resume goes on.", flush=True
    )
    trained = call("train", *train, "--resume")
    print("3. The student on held-out shapes.", flush=True)
    evaluated = call("evaluate", *held_out, "--run", directory, "--labels", held_out_labels)
    reported = call("report", "--run", directory)
    figures = {
        "teacher_top1": evaluated["teacher_top1"],
        "student_top1": evaluated["top1"],
        "relative_top1": evaluated["relative_top1"],
        "agreement_top1": evaluated["agreement_top1"],
        "images_labeled_per_second": labeled["images_per_second"],
        "images_trained_per_second": trained["images_per_second"],
        "killed_at_step": killed_at,
        "steps": trained["steps"],
        "seconds": round(time.monotonic() - start, 1),
        "report": reported["png"],
    }
    print()
    for name, value in figures.items():
        print(f"{name:>26}  {value:.3f}" if isinstance(value, float) else f"{name:>26}  {value}")
    return figures


def clear(out: pathlib.Path) -> None:
    """Makes the demo's directory, with a mark inside, and removes what an earlier demo made in it.

    Raises:
        UserError: something else is in it, or it is no demo's; nothing is removed.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"--out {out} is no directory; give another one") from error
    names = sorted(path.name for path in out.iterdir())
    if strangers := [name for name in names if MARK not in names or name not in (MARK, *PARTS)]:
        raise UserError(f"--out {out} holds {strangers[0]}, which no demo made; give a directory of its own")
    (out / MARK).write_text("python -m jobs.demo replaces what lies beside this file\n")
    for part in PARTS:
        if (out / part).exists():
            shutil.rmtree(out / part)


def show_command(job: str, flags: list[str]) -> None:
    """Prints the command as a person would type it."""
    print(f"   $ python -m jobs.{job} {shlex.join(flags)}", flush=True)


def call(job: str, *flags: str) -> dict:
    """Shows and runs a job, and returns its figures."""
    show_command(job, [*flags])
    return run_job(job, [*flags])


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
