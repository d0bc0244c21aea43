"""The network of a run as a file: written whole or not at all, equal weights as equal bytes, and read again."""

import io
import json
import pathlib
import re
import zipfile

import keras

import models.networks  # noqa: F401 - registers the layers that a network's file names
from models.description import Description
from tfpipeline.system import UserError, scratch_directory, write_file
from tfpipeline.training import checkpoint, run_directory

_NO_DATE = (1980, 1, 1, 0, 0, 0)
_NEEDS = b"the package tfpipeline: pip install it, then import models.networks before keras.models.load_model"


def write_model(model: keras.Model, directory: pathlib.Path, description: Description) -> None:
    """Writes model.keras into a run directory, with what it says of itself.

    It is made in a directory beside, of which the next writer removes what a killed one left.
    """
    path = directory / run_directory.MODEL
    with scratch_directory(directory, path.name) as place:
        model.save(place / path.name, include_optimizer=False)
        write_file(path, canonical((place / path.name).read_bytes(), description))


def canonical(content: bytes, description: Description) -> bytes:
    """The bytes of a .keras file that describes itself, in metadata.json under "description".

    What differs by chance is left out: when it was written, where objects lay in memory. Keras's message about a layer
    that it does not know shows all that the file says of the layer, which is why that says what is missing.
    """
    numbers: dict[bytes, int] = {}

    def number(found):
        return b'"shared_object_id": %d' % numbers.setdefault(found[1], len(numbers) + 1)

    with zipfile.ZipFile(io.BytesIO(content)) as archive, io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as copy:
            for name in archive.namelist():
                part = archive.read(name)
                if name == "metadata.json":
                    said = {"date_saved": "1980-01-01@00:00:00", "description": description.as_json()}
                    part = json.dumps(json.loads(part) | said).encode()
                elif name == "config.json":
                    # Without the optimizer and the loss, which answers do not need, and other programs do not have.
                    part = json.dumps(json.loads(part) | {"compile_config": None}).encode()
                    part = re.sub(rb'"shared_object_id": (\d+)', number, part)
                    part = re.sub(rb'("registered_name": "tfpipeline>\w+")', rb'\1, "needs": "%s"' % _NEEDS, part)
                copy.writestr(zipfile.ZipInfo(name, _NO_DATE), part)
        return file.getvalue()


def load_model(directory: pathlib.Path) -> keras.Model:
    """The network of a finished run.

    Raises:
        UserError: the run has no model.keras, or it does not load, or the run went on after it was written.
    """
    path = directory / run_directory.MODEL
    finish = f"finish the training with python -m jobs.train --run {directory} --resume"
    if not path.is_file():
        raise UserError(f"{path} is not there: {finish}")
    newest = run_directory.newest_step(directory)
    if _is_older(directory, newest):
        written = run_directory.read_figures(directory).get("steps")
        which = "an earlier network" if written is None else f"the network after step {written}"
        raise UserError(
            f"{path} is {which}, and the run has gone on to step {newest} since: {finish}, and the other flags it had"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Whatever a damaged file makes Keras, h5py or zipfile raise.
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not load ({reason}); write it again with jobs.train --resume") from error


def _is_older(directory, newest):
    """Whether a run went on, to the step `newest`, after its model.keras was written."""
    written = run_directory.read_figures(directory).get("steps")
    if isinstance(written, int):
        return newest > written
    # A run of version 0.1 does not say when it ended: it has where all the epochs are done that it was to have.
    config = run_directory.read_config(directory)
    try:
        snapshot = checkpoint.load_newest(directory / run_directory.CHECKPOINTS)
    except UserError:  # All are damaged, and tell nothing.
        return False
    if config is None or snapshot is None:
        return False
    ended = snapshot.state.get("stopped_by_callback") or "history" not in snapshot.state
    return not ended and len(snapshot.state["history"]) < config["flags"].get("epochs", 0)
