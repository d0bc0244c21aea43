"""Snapshots of a training run: one verified file each, committed whole or not at all."""

import dataclasses
import hashlib
import importlib
import io
import json
import pathlib
import re
import zipfile
from collections.abc import Callable

import numpy as np

from tfpipeline.system import UserError, remove_leftovers, sha256_of_file, write_file

FORMAT = 1
KEEP = 3
_HEADER = "checkpoint.json"
_NAME = re.compile(r"step-(\d{9,})-([0-9a-f]{16})\.npz")
_SAME_EVERY_TIME = (1980, 1, 1, 0, 0, 0)  # A date in the file would make equal snapshots differ.


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What one checkpoint holds.

    Attributes:
        step: number of training steps done.
        arrays: every variable by its name.
        state: what is not an array (callbacks, history), as JSON holds it.
        config: the run's configuration, as JSON holds it.
        path: the file that it came from.
    """

    step: int
    arrays: dict[str, np.ndarray]
    state: dict
    config: dict
    path: pathlib.Path


class DamagedCheckpoint(Exception):
    """The file is not what was written; the text says in which way."""


def save(directory: pathlib.Path, step: int, arrays: dict, config: dict, state: dict | None = None) -> pathlib.Path:
    """Commits a snapshot: equal snapshots give equal files, whose name carries their hash.

    Args:
        directory: where the checkpoints are; made when missing.
        step: number of training steps done.
        arrays: every variable by its name, of any NumPy or ml_dtypes type.
        config: the run's configuration, for JSON.
        state: what else belongs to the run's state, for JSON.

    Returns:
        The path of the file, durable under its final name.

    Raises:
        UserError: the disk is full or cannot be written; the earlier checkpoints are intact.
    """
    content = _encode(step, arrays, config, state or {})
    path = directory / f"step-{step:09d}-{hashlib.sha256(content).hexdigest()[:16]}.npz"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
    except OSError as error:
        raise UserError(
            f"cannot save a checkpoint of {len(content):,} bytes as {path}: {error.strerror}; the earlier "
            "checkpoints are intact: make room and run the same command again with --resume"
        ) from error
    return path


def load(path: pathlib.Path) -> Snapshot:
    """The snapshot in a file, every byte of it verified.

    Raises:
        DamagedCheckpoint: the file is not what was written, or holds Python objects, which are never unpickled.
    """
    if not _NAME.fullmatch(path.name):
        raise DamagedCheckpoint("the name is not step-NUMBER-HASH.npz")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(f"it cannot be read: {error.strerror}") from error
    return verify(path, content)


def verify(path: pathlib.Path, content: bytes) -> Snapshot:
    """The snapshot that is the content of a file, which need not lie on this machine.

    Args:
        path: of the file; its name carries the step and the hash.
        content: its bytes.

    Raises:
        DamagedCheckpoint: as `load`.
    """
    match = _NAME.fullmatch(path.name)
    if match is None or hashlib.sha256(content).hexdigest()[:16] != match[2]:
        raise DamagedCheckpoint(f"its {len(content):,} bytes do not have the hash in its name")
    try:
        step, arrays, state, config = _decode(content)
    except Exception as error:  # Whatever hostile bytes make NumPy, zipfile or json raise, MemoryError among it.
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}") from error
    if step != int(match[1]):
        raise DamagedCheckpoint(f"it holds step {step}")
    return Snapshot(step, arrays, state, config, path)


def load_newest(directory: pathlib.Path, say: Callable[[str], None] = lambda line: None) -> Snapshot | None:
    """The newest snapshot that is whole, or None when there is no checkpoint at all.

    The step in the name decides what is newest, not the clock. Nothing is ever deleted here.

    Args:
        directory: where the checkpoints are; may be missing.
        say: takes a line for each damaged file that is passed over.

    Raises:
        UserError: there are checkpoints and every one is damaged; lists them.
    """
    damaged = []
    for path in newest_first(directory):
        try:
            return load(path)
        except DamagedCheckpoint as error:
            damaged.append(f"{path.name} ({error})")
            say(f"passing over the damaged checkpoint {path}: {error}")
    if damaged:
        raise UserError(
            f"every checkpoint in {directory} is damaged: {', '.join(damaged)}; nothing was deleted: "
            "bring back a copy, or begin again in an empty run directory"
        )
    return None


def newest_first(directory: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoint files of a directory, by descending step."""
    paths = [path for path in directory.glob("step-*.npz") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (step_of(path), path.name), reverse=True)


def step_of(path: pathlib.Path) -> int:
    """The step in the name of a checkpoint file."""
    return int(path.name.split("-")[1])


def prune(directory: pathlib.Path, keep: int = KEEP, keep_steps: tuple[int, ...] = ()) -> list[pathlib.Path]:
    """Deletes old checkpoints, once enough newer ones verify; damaged files stay, as evidence.

    Args:
        directory: where the checkpoints are.
        keep: how many of the newest whole ones stay.
        keep_steps: steps whose checkpoints stay as well, such as the best one.

    Returns:
        Those that are damaged, or cannot be read or deleted.
    """
    remove_leftovers(directory, _NAME.pattern)
    whole, damaged = 0, []
    for path in newest_first(directory):
        if whole >= keep and step_of(path) not in keep_steps:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                damaged.append(path)
        elif is_whole(path):
            whole += 1
        else:
            damaged.append(path)
    return damaged


def is_whole(path: pathlib.Path) -> bool:
    """Whether a checkpoint file is there, can be read, and has the hash that its name carries."""
    try:
        return sha256_of_file(path).startswith(path.stem.split("-")[2])
    except OSError:
        return False


def sha256_of_arrays(arrays: dict[str, np.ndarray]) -> str:
    """The sha256, in hexadecimal, over the names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _encode(step, arrays, config, state) -> bytes:
    header = {
        "format": FORMAT,
        "step": step,
        "config": config,
        "state": state,
        "dtypes": {name: str(array.dtype) for name, array in arrays.items() if _is_foreign(array.dtype)},
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in {_HEADER: text, **arrays}.items():
                entry = zipfile.ZipInfo(f"{name}.npy", _SAME_EVERY_TIME)
                with archive.open(entry, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, _as_native(array), allow_pickle=False)
        return file.getvalue()


def _decode(content: bytes):
    """(step, arrays, state, config) of a file's content; ValueError where it would need pickle."""
    with np.load(io.BytesIO(content), allow_pickle=False) as entries:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.zip.infolist()):
            raise ValueError("its parts are packed")  # Small ones may unpack to more than the memory holds.
        header = json.loads(entries[_HEADER].tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']}, this program reads {FORMAT}")
        arrays = {name: entries[name] for name in entries.files if name != _HEADER}
    for name, dtype in header["dtypes"].items():
        foreign = np.dtype(getattr(importlib.import_module("ml_dtypes"), dtype))
        if not _is_foreign(foreign):
            raise ValueError(f"{dtype} is no type of ml_dtypes")
        arrays[name] = arrays[name].view(foreign)
    state, config = header["state"], header["config"]
    if not isinstance(state, dict) or not isinstance(config, dict):
        raise ValueError("its state or its config is no table")
    return header["step"], arrays, state, config


def _is_foreign(dtype: np.dtype) -> bool:
    """Whether a type, such as bfloat16, is unknown to the .npy format."""
    return dtype.isbuiltin == 2


def _as_native(array: np.ndarray) -> np.ndarray:
    """The same bytes in a type that the .npy format knows."""
    return array.view(f"u{array.dtype.itemsize}") if _is_foreign(array.dtype) else array
