"""Labels for other programs: TFRecord that TFDS reads, Parquet, and CSV; one row for each image and view."""

import contextlib
import csv
import pathlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from labeling.labels.store import SPEC_FILE, LabelStore
from tfpipeline.batches import Answers
from tfpipeline.system import SILENT, Console, StopRequest, UserError, escape_formula

Columns = dict[str, Any]

DATASET, SPLIT = "labels", "train"
EXAMPLES_PER_FILE = 100_000
_DESCRIPTION = (
    "Answers of pretrained classifiers to images: `index` counts the images, `view` names the view of the image that "
    "was answered, `top_k` are the most probable classes, `log_probs` their log-probabilities at temperature 1, and "
    "`log_tail` is the logarithm of the probability of all other classes. spec.json says how they were made."
)


def export(
    store: LabelStore,
    form: str,
    directory: pathlib.Path,
    names: Sequence[str] | None = None,
    stop: StopRequest | None = None,
    console: Console = SILENT,
) -> int:
    """Writes all labels of a store, shard by shard. Memory stays flat however many they are.

    The columns are index int64; name, where `names` are given; view; top_k (k); log_probs float32 (k), at temperature
    1; log_tail float32. A copy of the store's spec.json lies beside them.

    Args:
        store: the labels.
        form: one of FORMS.
        directory: an empty directory.
        names: the name of each image, or None.
        stop: asked between shards; or None.
        console: where progress goes.

    Returns:
        The number of rows: images times views.

    Raises:
        UserError: a shard is missing or damaged, or the form needs a package that is not installed.
        Stopped: a signal came.
    """
    shards = store.whole_shards()
    rows = 0
    with (
        FORMS[form](directory, store.spec.top_k, names is not None) as write,
        console.bar("exporting", store.spec.count, "image") as advance,
    ):
        for span, path in shards.items():
            if stop is not None:
                stop.raise_if_requested("nothing is left of the unfinished export")
            columns = rows_of(store.read(path), span.first, store.spec.views, names)
            write(columns)
            rows += len(columns["index"])
            advance(span.images)
    (directory / SPEC_FILE).write_text(store.spec.to_json(), encoding="utf-8")
    return rows


def rows_of(answers: Answers, first: int, views: tuple[str, ...], names: Sequence[str] | None = None) -> Columns:
    """The answers as columns, a row for each image and view; the views of an image follow each other.

    Args:
        answers: to n consecutive images, leading axes (n, views).
        first: index of the first.
        views: names of the views.
        names: the name of every image of the store, or None.

    Returns:
        "index" int64 (r,), "name" list of r when names are given, "view" list of r, "top_k" uint16 or uint32 (r, k),
        "log_probs" float16 (r, k), "log_tail" float16 (r,), with r = n * len(views).
    """
    index = np.repeat(np.arange(first, first + len(answers), dtype=np.int64), len(views))
    return {
        "index": index,
        **({} if names is None else {"name": [names[i] for i in index.tolist()]}),
        "view": list(views) * len(answers),
        **answers.as_rows().arrays(),
    }


@contextlib.contextmanager
def tfrecord_writer(directory: pathlib.Path, k: int, named: bool) -> Iterator[Callable[[Columns], None]]:
    """Files that `tfds.builder_from_directory` opens, with split "train".

    Args:
        directory: an empty directory.
        k: answers per row.
        named: whether rows have names.

    Yields:
        The function that writes columns, as `rows_of` returns them.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    class SameBytes(ExampleSerializer):
        """Writes the features of an example in the same order each time."""

        def serialize_example(self, example):
            return self.get_tf_example(example).SerializeToString(deterministic=True)

    features = {
        "index": np.int64,
        **({"name": tfds.features.Text()} if named else {}),
        "view": tfds.features.Text(),
        "top_k": tfds.features.Tensor(shape=(k,), dtype=np.int64),
        "log_probs": tfds.features.Tensor(shape=(k,), dtype=np.float32),
        "log_tail": np.float32,
    }
    identity = DatasetIdentity(
        name=DATASET, version=tfds.core.Version("1.0.0"), data_dir=str(directory), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity, description=_DESCRIPTION, features=tfds.features.FeaturesDict(features)
    )
    writer = tfds.core.SequentialWriter(info, EXAMPLES_PER_FILE)
    writer._serializer = SameBytes(info.features.get_serialized_info())  # TFDS has no other door for it.
    writer.initialize_splits([SPLIT])

    def write(columns):
        values = _convert(columns, np.int64)
        rows = zip(*values.values(), strict=True)
        writer.add_examples({SPLIT: [dict(zip(values, row, strict=True)) for row in rows]})

    yield write
    writer.close_all()


@contextlib.contextmanager
def parquet_writer(directory: pathlib.Path, k: int, named: bool) -> Iterator[Callable[[Columns], None]]:
    """labels.parquet, a row group for each shard; `top_k` and `log_probs` are lists.

    Args and Yields: as `tfrecord_writer`.

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"--to parquet needs pyarrow ({error}): pip install pyarrow") from error
    types = {
        "index": pyarrow.int64(),
        **({"name": pyarrow.string()} if named else {}),
        "view": pyarrow.string(),
        "top_k": pyarrow.list_(pyarrow.int32()),
        "log_probs": pyarrow.list_(pyarrow.float32()),
        "log_tail": pyarrow.float32(),
    }
    schema = pyarrow.schema(types.items())

    def lists(values):
        ends = np.arange(0, values.size + 1, k, dtype=np.int32)
        return pyarrow.ListArray.from_arrays(ends, values.ravel())

    with pyarrow.parquet.ParquetWriter(directory / "labels.parquet", schema) as writer:

        def write(columns):
            values = _convert(columns, np.int32)  # Not every reader of Parquet knows unsigned integers.
            values |= {name: lists(values[name]) for name in ("top_k", "log_probs")}
            writer.write_table(pyarrow.table(values, schema))

        yield write


def _convert(columns, integers):
    """The columns with the types that every reader knows; all of them hold the values exactly."""
    return columns | {
        "top_k": columns["top_k"].astype(integers),
        "log_probs": columns["log_probs"].astype(np.float32),
        "log_tail": columns["log_tail"].astype(np.float32),
    }


@contextlib.contextmanager
def csv_writer(directory: pathlib.Path, k: int, named: bool) -> Iterator[Callable[[Columns], None]]:
    """labels.csv: index, name, view, class_1 .. class_k, log_prob_1 .. log_prob_k, log_tail.

    Numbers have the digits that tell one float16 from the next; a name that a spreadsheet would take for a formula
    has a "'" before it.

    Args and Yields: as `tfrecord_writer`.
    """
    single = ["index", *(["name"] if named else []), "view"]
    ranks = range(1, k + 1)
    header = [*single, *(f"class_{rank}" for rank in ranks), *(f"log_prob_{rank}" for rank in ranks), "log_tail"]
    with open(directory / "labels.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)

        def write(columns):
            numbers = (columns["top_k"], columns["log_probs"].astype(str), columns["log_tail"].astype(str))
            for *first, top_k, log_probs, log_tail in zip(*(columns[n] for n in single), *numbers, strict=True):
                table.writerow([*map(escape_formula, first), *top_k, *log_probs, log_tail])

        yield write


FORMS: dict[str, Callable[..., AbstractContextManager[Callable[[Columns], None]]]] = {
    "tfrecord": tfrecord_writer,
    "parquet": parquet_writer,
    "csv": csv_writer,
}
