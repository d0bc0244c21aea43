"""python -m jobs.train_bundled_teacher: makes the teacher that the repository brings along for the built-in shapes."""

import dataclasses
import pathlib
import time

from jobs import command
from tfpipeline.images import shapes
from tfpipeline.system import Console
from tfpipeline.system.flags import Flags, Range, flag

EXAMPLE = "python -m jobs.train_bundled_teacher --out labeling/teachers/bundled"
# The pictures of another seed are none of those that `--images shapes` gives, in either split.
TRAINING_SEED = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Trains the bundled teacher on shapes and writes its SavedModel, its classes and its figures."""

    out: str = flag(
        "labeling/teachers/bundled", "directory of the SavedModel; the one that is there is replaced", metavar="DIR"
    )
    images: int = flag(40_000, "pictures to train on", metavar="N", within=Range(at_least=1))
    epochs: int = flag(8, "epochs of training", within=Range(at_least=1))
    validation_images: int = flag(
        1_000, "held-out pictures, those of --images shapes --split valid", metavar="N", within=Range(at_least=1)
    )
    seed: int = flag(0, "of the initial weights and the order of the pictures")
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Trains, exports and measures what was exported."""
    command.import_tensorflow()
    import keras

    from jobs.labeling import bundled_teacher

    start, directory = time.monotonic(), pathlib.Path(config.out)
    keras.utils.set_random_seed(config.seed)
    images, truth = bundled_teacher.draw_pictures(TRAINING_SEED, "train", config.images)
    model = bundled_teacher.build_network(len(shapes.NAMES))
    bundled_teacher.train(model, images, truth, config.epochs, config.seed, Console(config.quiet))
    bundled_teacher.write_teacher(model, directory)
    held_out = bundled_teacher.draw_pictures(0, "valid", config.validation_images)
    figures = {
        "top1": bundled_teacher.measure_teacher(directory, *held_out),
        "images": config.images,
        "epochs": config.epochs,
        "parameters": model.count_params(),
        "bytes": sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
        "seconds": round(time.monotonic() - start, 1),
        "out": config.out,
    }
    (directory / "README.md").write_text(readme(config, figures), encoding="utf-8")
    return figures


def readme(config: Config, figures: dict) -> str:
    """The text beside the SavedModel."""
    shape = f"(B, {shapes.SIZE}, {shapes.SIZE}, 3)"
    return f"""# The bundled teacher

A small convolutional network that knows the {len(shapes.NAMES)} shapes of `--images shapes`, as a SavedModel in
the TF-Hub convention: float32 pixels in 0..1, {shape}, to logits. `--teacher bundled` names it; classes.txt
names its classes.

Made by

    python -m jobs.train_bundled_teacher --images {config.images} --epochs {config.epochs} --seed {config.seed}

on {config.images:,} pictures drawn from a seed of their own, which are in neither split of `--images shapes`.

| | |
|---|---|
| top-1 on {config.validation_images:,} held-out pictures | {figures["top1"]:.1%} |
| parameters | {figures["parameters"]:,} |
| bytes | {figures["bytes"]:,} |
| seconds to make, drawing included | {figures["seconds"]:.0f} |
"""


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
