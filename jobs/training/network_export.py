"""A run's network for other programs, published only when it answers as Keras does."""

import pathlib
import tempfile

import keras
import numpy as np

from jobs.training.model_card import CARD
from models import export
from models.description import Description
from tfpipeline.images import ImageFlags
from tfpipeline.system import UserError, flags, new_directory, write_file
from tfpipeline.training import run_directory


def export_network(
    model: keras.Model, form: str, out: pathlib.Path, images: np.ndarray, description: Description
) -> export.Check:
    """Writes a network, and returns how it answers beside Keras.

    Args:
        model: the network, of images (H, W, 3).
        form: one of models.export.WRITERS.
        out: a new directory for savedmodel, or one with the same network, else a file; it is there whole or not at all.
        images: uint8 (N, H, W, 3), which both are asked about.
        description: what the file says of itself.

    Raises:
        UserError: `out` is something else already, or what was exported does not answer as Keras does.
    """
    model = export.in_float32(model)
    if form == "savedmodel":
        head = (export.DESCRIPTION_IN_SAVEDMODEL, description.to_json().encode())
        with new_directory(out, head, (*export.OTHER_BYTES, CARD)) as directory:
            return _write_and_check(form, model, directory, images, description)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / out.name
        found = _write_and_check(form, model, path, images, description)
        write_file(out, path.read_bytes())
    return found


def _write_and_check(form, model, path, images, description):
    export.WRITERS[form](model, path, description)
    found = export.check(model, export.OPENERS[form](path), images)
    if not found.passed:
        raise UserError(
            f"--to {form}: the exported network is not the one that Keras runs: the same first answer on "
            f"{found.same_top1:,} of {found.images:,} images, log-probabilities that differ by up to "
            f"{found.max_difference:.2g} (at most {export.MAX_DIFFERENCE} is allowed); nothing was written: choose "
            "another form"
        )
    return found


def image_flags_of_run(run: pathlib.Path, cache: str | None) -> ImageFlags:
    """The images that a run was trained on.

    Args:
        run: the run directory.
        cache: where opened images are kept; None for where the run kept them.

    Raises:
        UserError: the run does not say which images it had.
    """
    saved = run_directory.read_config(run) or {"flags": {}}
    known = {field.name for field in flags.fields_of(ImageFlags)}
    try:
        images = flags.from_flat(ImageFlags, {name: value for name, value in saved["flags"].items() if name in known})
    except TypeError as error:
        raise UserError(
            f"{run / run_directory.CONFIG} does not say which images the run had ({error}); give --images and --split"
        ) from error
    return images if cache is None else flags.change(images, cache=cache)
