"""python -m jobs.demo: the whole chain on the built-in shapes, with a training that is killed half-way and resumed."""

import dataclasses
import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

from jobs import command
from jobs.command import flag
from tfpipeline.system import UserError

EXAMPLE = "python -m jobs.demo --out demo"
SECONDS_BETWEEN_LOOKS = 0.1
BATCH_SIZE = 50


@dataclasses.dataclass(frozen=True)
class Config:
    """Labels shapes with the bundled teacher, trains a student on the labels alone, kills and resumes it, reports."""

    out: str = flag("demo", "directory to write into; what an earlier demo left there is replaced", metavar="DIR")
    images: int = flag(6000, "training images to label", metavar="N")
    validation_images: int = flag(1000, "held-out images", metavar="N")
    epochs: int = flag(8, "epochs of training")


def run(config: Config) -> dict:
    """Runs the commands one after another and prints a short table at the end."""
    start = time.monotonic()
    out = pathlib.Path(config.out)
    shutil.rmtree(out, ignore_errors=True)
    images = ["--images", "shapes", "--cache", str(out / "images")]
    training = [*images, "--split", "train", "--limit", str(config.images)]
    held_out = [*images, "--split", "valid", "--limit", str(config.validation_images)]
    labels, held_out_labels, directory = str(out / "labels"), str(out / "labels-valid"), str(out / "run")
    teacher = ["--teacher", "bundled"]

    print("1. The teacher answers.", flush=True)
    labeled = call("label_imagenet64", *training, *teacher, "--out", labels)
    call("label_imagenet64", *held_out, *teacher, "--out", held_out_labels)
    print("2. A student learns from the answers alone, and is killed half-way with SIGKILL.", flush=True)
    train = ["train", *training, "--labels", labels, "--validation-labels", held_out_labels, "--run", directory]
    train += ["--validation-split", "valid", "--validation-limit", str(config.validation_images)]
    train += ["--epochs", str(config.epochs), "--batch-size", str(BATCH_SIZE), "--learning-rate", "4e-3"]
    train += ["--save-every", "20"]
    killed_at = kill_after(config.epochs * (config.images // BATCH_SIZE) // 2, pathlib.Path(directory), *train)
    print(
        f"   killed; the newest checkpoint is of step {killed_at}. The same command with --resume goes on.", flush=True
    )
    trained = call(*train, "--resume")
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


def command_line(job, *flags) -> list[str]:
    """The command, shown to the person and ready to run."""
    print(f"   $ python -m jobs.{job} {shlex.join(flags)}", flush=True)
    return [sys.executable, "-m", f"jobs.{job}", *flags]


def call(job, *flags) -> dict:
    """Runs a job to its end and returns its figures.

    Raises:
        UserError: it failed; its own line on standard error says why.
    """
    done = subprocess.run(command_line(job, *flags), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"jobs.{job} ended with exit code {done.returncode}; the line above says why")
    return json.loads(done.stdout.splitlines()[-1])


def kill_after(step: int, directory: pathlib.Path, job, *flags) -> int:
    """Starts a job and kills it with SIGKILL once a checkpoint of `step` or later is there; returns its step."""
    process = subprocess.Popen(command_line(job, *flags), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        newest = max((int(path.name.split("-")[1]) for path in directory.glob("checkpoints/step-*.npz")), default=0)
        if newest >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return newest
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise UserError(f"jobs.{job} ended with exit code {process.returncode} before step {step}; the line above says why")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
