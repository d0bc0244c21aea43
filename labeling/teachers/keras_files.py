"""What a .keras or .h5 file holds, read without making anything of it: no code, no other files, no more than it stores.

A .keras file is a zip of metadata.json, config.json and model.weights.h5; an .h5 file has the architecture among its
attributes. HDF5 can point elsewhere: at other files by links and virtual datasets, at any bytes of the disk by external
storage; and it can name shapes of any size and store nothing of them.
"""

import io
import json
import pathlib
import zipfile
from typing import Any

import h5py

_WEIGHTS = "model.weights.h5"
_MEMBERS = frozenset({"metadata.json", "config.json", _WEIGHTS})
_MOST_TEXT = 2**28  # bytes of the architecture; that of the largest in Keras Applications has some 10^6
# What is larger than this unpacked, and this many times as large as what is stored, is no model; Keras packs nothing.
_FEW, _MANY_TIMES = 2**26, 100


class Refused(Exception):
    """The file asks for more than a model needs; the text says for what, and where."""


def read_architecture(path: pathlib.Path) -> tuple[str, Any]:
    """(version of the Keras that wrote the file, its model's architecture as it is read from JSON).

    Raises:
        Exception: any, when the file is damaged.
    """
    if path.suffix.lower() == ".keras":
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            version = json.loads(_read_text(archive, "metadata.json"))["keras_version"]
            # Only the model is made, not what it was compiled with.
            return version, {**json.loads(_read_text(archive, "config.json")), "compile_config": None}
    with h5py.File(path, "r") as content:
        return _text(content.attrs["keras_version"]), json.loads(_text(content.attrs["model_config"]))


def _read_text(archive, name):
    if archive.getinfo(name).file_size > _MOST_TEXT:
        raise ValueError(f"{name} in it has more than {_MOST_TEXT:,} bytes")
    return archive.read(name)


def _text(value):
    """An attribute as text: Keras up to 2.3 wrote bytes."""
    return value.decode() if isinstance(value, bytes) else value


def check(path: pathlib.Path) -> None:
    """Checks that a file holds its own weights, in as many bytes as they have, and nothing but what a model needs.

    Raises:
        Refused: it does not.
        Exception: any, when the file is damaged.
    """
    if path.suffix.lower() != ".keras":
        with h5py.File(path, "r") as content:
            _check_hdf5(content)
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if others := sorted(set(names) - _MEMBERS):
            raise Refused(f"it holds {others[0]!r:.80}, which is no part of a model of layers that only compute")
        if len(names) != len(set(names)):
            raise Refused("it holds a member twice")
        for member in archive.infolist():
            if _is_too_large(member.file_size, member.compress_size):
                raise Refused(
                    f"{member.filename} unpacks to {member.file_size:,} bytes, of {member.compress_size:,} stored"
                )
        with h5py.File(io.BytesIO(archive.read(_WEIGHTS)), "r") as content:
            _check_hdf5(content)


def _check_hdf5(content):
    """Looks at the links of a file before it follows them."""
    waiting, seen = [content], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            kind = group.get(name, getlink=True, getclass=True)
            if kind is not h5py.HardLink:
                raise Refused(f"{place} in it is a link ({kind.__name__}), perhaps to another file")
            child = group[name]
            if isinstance(child, h5py.Group) and child.id not in seen:  # Groups may contain themselves.
                seen.add(child.id)
                waiting.append(child)
            elif isinstance(child, h5py.Dataset):
                _check_dataset(place, child)


def _check_dataset(place, dataset):
    if dataset.is_virtual or dataset.external:
        raise Refused(f"{place} in it lies in another file")
    size, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if _is_too_large(size, stored):
        raise Refused(f"{place} in it claims {size:,} bytes, of {stored:,} stored")


def _is_too_large(size, stored):
    return size > _FEW and size > _MANY_TIMES * stored
