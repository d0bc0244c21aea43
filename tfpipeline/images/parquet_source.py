"""Images in Parquet files, in the layout of Hugging Face, as a source.

A column holds the content of image files: `bytes`, or a record of `bytes` and `path`. Another one, `label`, holds the
class, as a text or as a number whose names stand in the file's own metadata.
"""

import functools
import itertools
import json
import pathlib
import re
import typing
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfpipeline.images.decoding import BrokenImage, decode
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.listing import fault_of_size
from tfpipeline.images.places import state_of
from tfpipeline.images.shards import Label, Shard, ShardSource, local_shards, refuse
from tfpipeline.system import UserError

SUFFIXES = (".parquet",)
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels")
_ROWS = 64  # that are in memory together
_BUFFER = 1 << 20  # bytes of a column that are read together


class ParquetSource(ShardSource):
    """The rows of the files of a split, row group by row group: memory stays flat.

    Where a row group is damaged, its images from there on cannot be read, and the next one goes on.

    Args:
        spec: what the images are.
        place: how messages call the data set.
        shards: its files.
        flags: which of the images.
        state: what else decides about them.
    """

    def __init__(self, spec: str, place: str, shards: Sequence[Shard], flags: ImageFlags, state: dict[str, typing.Any]):
        super().__init__(spec, place, shards, flags, state)
        self._names: dict[str, tuple[str, ...] | None] = {}

    @classmethod
    def of_path(cls, path: pathlib.Path, flags: ImageFlags) -> "ParquetSource":
        """The source of a file, or of the files in a folder.

        Raises:
            UserError: there are none.
        """
        shards = local_shards("parquet", path, SUFFIXES)
        return cls(f"parquet:{path.resolve().name}", str(path), shards, flags, {"files": state_of(path)})

    def labels_of(self, shard: Shard) -> Sequence[Label]:
        file, columns = self._open(shard)
        if columns.label is None:
            return [None] * file.metadata.num_rows
        try:
            return file.read(columns=[columns.label]).column(0).to_pylist()
        except Exception as error:  # Over damaged bytes pyarrow raises nearly anything.
            raise UserError(_damaged(shard.fetch(), error)) from error

    def images_of(self, shard: Shard, first: int, last: int) -> Iterator[Callable[[], np.ndarray]]:
        file, columns = self._open(shard)
        position = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            begin, end = max(first - position, 0), min(last - position, rows)
            position += rows
            if begin < end:
                yield from itertools.islice(self._images_of_group(file, columns, group), begin, end)

    def _images_of_group(self, file, columns, group) -> Iterator[Callable[[], np.ndarray]]:
        """What reads each image of a row group."""
        rows, done = file.metadata.row_group(group).num_rows, 0
        batches = file.iter_batches(_ROWS, row_groups=[group], columns=[columns.image])
        while done < rows:
            try:
                column = next(batches).column(0)
            except Exception as error:  # As above; StopIteration where the row group ends early.
                fault = f"lies in a damaged row group ({_reason(error)})"
                yield from [functools.partial(refuse, fault)] * (rows - done)
                return
            for content in column.field("bytes") if columns.is_record else column:
                yield functools.partial(_decode, content, self.flags.size)
            done += len(column)

    def stated_names(self) -> Sequence[str] | None:
        stated = set(self._names.values()) - {None}
        if len(stated) > 1:
            raise UserError(f"the files of {self.place} name other classes than each other; read each of them alone")
        return next(iter(stated), None)

    def _open(self, shard):
        """(the file, which columns of it are read)"""
        import pyarrow.parquet  # Here, because it takes a while that other sources need not wait.

        path = shard.fetch()
        try:
            file = pyarrow.parquet.ParquetFile(
                path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
            columns = _columns(path, file.schema_arrow)
        except UserError:
            raise
        except Exception as error:
            raise UserError(_damaged(path, error)) from error
        self._names[shard.name] = columns.names
        return file, columns


class _Columns(typing.NamedTuple):
    """What is read of a file.

    Attributes:
        image: the column of bytes, as pyarrow writes its path.
        is_record: whether these bytes are a field of records.
        label: the column of the class, or None.
        names: the names of the classes by their numbers, where the file states them.
    """

    image: str
    is_record: bool
    label: str | None
    names: tuple[str, ...] | None


def _columns(path, schema) -> _Columns:
    features = _features(schema)
    image = _image_column(path, schema, features)
    kind = schema.field(image).type
    is_record = kind.num_fields > 0 and any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    content = kind.field("bytes").type if is_record else kind
    if str(content) not in ("binary", "large_binary", "binary_view"):
        raise UserError(
            f"{path}: its column {image} is {kind!s:.200}, not bytes of image files, or records of bytes and path;"
            " write the images into it"
        )
    label = _label_column(schema, features)
    stated = features.get(label or "", {}).get("names")
    names = tuple(stated) if isinstance(stated, list) and all(isinstance(name, str) for name in stated) else None
    return _Columns(f"{image}.bytes" if is_record else image, is_record, label, names)


def _features(schema) -> dict[str, dict]:
    """name -> what the metadata of Hugging Face say of a column that is there; {} where there are none."""
    try:
        stated = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: each for name, each in stated.items() if name in schema.names and isinstance(each, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _image_column(path, schema, features):
    stated = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    named = [name for name in _IMAGE_COLUMNS if name in schema.names]
    found = stated if len(stated) == 1 else named
    if not found:
        raise UserError(
            f"{path} has no column {_IMAGE_COLUMNS[0]}, only {', '.join(map(repr, schema.names))[:300]}; give it the"
            " images in that column, the content of a file in each row"
        )
    return found[0]


def _label_column(schema, features):
    """The column of the class, of several that the metadata call so the first; None where there is none."""
    stated = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    for name in (*_LABEL_COLUMNS, *stated):
        if name in schema.names and re.fullmatch(r"u?int\d+|(large_)?string|string_view", str(schema.field(name).type)):
            return name
    return None


def _decode(content, size):
    encoded = content.as_py()
    if encoded is None:
        raise BrokenImage("has no bytes in its row, at most the path of a file elsewhere")
    if fault := fault_of_size(len(encoded)):
        raise BrokenImage(fault)
    return decode(encoded, size)


def _damaged(path, error):
    return f"{path} is damaged or no Parquet file ({_reason(error)}); get it again"


def _reason(error):
    return " ".join(str(error).split())[:200] or type(error).__name__
