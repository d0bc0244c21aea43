"""Images with their labels, as other trainers read them: Hugging Face's Parquet files, or a folder for each class."""

import collections
import contextlib
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
from PIL import Image

from labeling.labels import quality
from labeling.labels.store import SPEC_FILE, LabelStore
from tfpipeline.batches import Answers
from tfpipeline.images import ImageStore
from tfpipeline.system import SILENT, Console, StopRequest

IMAGES_PER_FILE = 100_000
_SPLIT = "train"
_LONGEST = 60  # characters of a name in a name of a file, which has at most 255 bytes
_NO_NAME = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|]+")  # what file systems refuse somewhere


@dataclasses.dataclass(frozen=True)
class Labeled:
    """Some images with the answers to them.

    Attributes:
        indices: which images of the store they are, int64 (n,).
        names: of the images.
        pixels: uint8 (n, H, W, 3).
        answers: leading axes (n,).
    """

    indices: np.ndarray
    names: list[str]
    pixels: np.ndarray
    answers: Answers


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the images go, and how.

    Attributes:
        directory: an empty one.
        form: one of IMAGE_FORMS.
        originals: the folder whose files have the images' names, to be linked; None where there is none.
    """

    directory: pathlib.Path
    form: str
    originals: pathlib.Path | None = None


Writer = Callable[[Labeled], None]


def export_images(
    store: LabelStore,
    images: ImageStore,
    place: Place,
    above: float = 0.0,
    stop: StopRequest | None = None,
    console: Console = SILENT,
) -> int:
    """Writes the images with the answers to them as a whole, shard by shard: memory stays flat. Beside them lies the
    store's spec.json.

    Args:
        store: the labels.
        images: those that are labeled.
        place: where they go.
        above: leaves out the images whose most probable class is less probable.
        stop: asked between shards; or None.
        console: where progress goes.

    Returns:
        The number of images.

    Raises:
        UserError: a shard is missing or damaged.
        Stopped: a signal came.
    """
    shards = store.whole_shards()
    names = _unique(quality.class_names(store.spec, images.classes))
    written = 0
    with (
        IMAGE_FORMS[place.form](place, names, store.spec.count) as write,
        console.bar("exporting", store.spec.count, "image") as advance,
    ):
        for span, path in shards.items():
            if stop is not None:
                stop.raise_if_requested("nothing is left of the unfinished export")
            answers = store.read(path).view(store.spec.whole_view)
            rows = np.flatnonzero(answers.confidence.astype(np.float64) >= above)
            indices = span.first + rows
            write(Labeled(indices, [images.names[i] for i in indices], images.images[indices], answers[rows]))
            written += len(rows)
            advance(span.images)
    (place.directory / SPEC_FILE).write_text(store.spec.to_json(), encoding="utf-8")
    return written


def all_probabilities(answers: Answers, classes: int) -> np.ndarray:
    """The probabilities of all classes, float32 (n, classes): what is outside of the stored ones is spread evenly.

    Args:
        answers: leading axes (n,).
        classes: K.
    """
    stored = np.exp(answers.log_probs.astype(np.float64))
    others = max(classes - stored.shape[1], 1)
    rest = np.exp(answers.log_tail.astype(np.float64)) / others
    p = np.broadcast_to(rest[:, None], (len(stored), classes)).copy()
    np.put_along_axis(p, answers.top_k.astype(np.int64), stored, axis=1)
    return (p / p.sum(1, keepdims=True)).astype(np.float32)


@contextlib.contextmanager
def write_hugging_face(place: Place, class_names: list[str], count: int) -> Iterator[Writer]:
    """data/train-00000-of-NNNNN.parquet with the columns image, label and probabilities, a row group for each shard.

    Args:
        place: where they go.
        class_names: one for each class, no two equal.
        count: how many images there are to come, at most.

    Yields:
        The function that writes some images.
    """
    import pyarrow
    import pyarrow.parquet

    classes = len(class_names)
    features = {
        "image": {"_type": "Image"},
        "label": {"names": class_names, "_type": "ClassLabel"},
        "probabilities": {"feature": {"dtype": "float32", "_type": "Value"}, "length": classes, "_type": "Sequence"},
    }
    schema = pyarrow.schema(
        {
            "image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
            "label": pyarrow.int64(),
            "probabilities": pyarrow.list_(pyarrow.float32(), classes),
        }.items(),
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    folder = place.directory / "data"
    folder.mkdir()
    files = -(-count // IMAGES_PER_FILE)
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                pyarrow.parquet.ParquetWriter(folder / f"{_SPLIT}-{i:05d}-of-{files:05d}.parquet", schema)
            )
            for i in range(files)
        ]

        def write(labeled: Labeled) -> None:
            if not len(labeled.indices):
                return
            p = all_probabilities(labeled.answers, classes)
            columns = {
                "image": [
                    {"bytes": _as_png(pixels), "path": name}
                    for pixels, name in zip(labeled.pixels, labeled.names, strict=True)
                ],
                "label": labeled.answers.first.astype(np.int64),
                "probabilities": pyarrow.FixedSizeListArray.from_arrays(p.ravel(), classes),
            }
            writers[labeled.indices[0] // IMAGES_PER_FILE].write_table(pyarrow.table(columns, schema))

        yield write


@contextlib.contextmanager
def write_image_folder(place: Place, class_names: list[str], count: int) -> Iterator[Writer]:
    """CLASS/NUMBER-NAME for each image, by its most probable class: a link to the original where there is a file of its
    name, else a PNG file of its pixels. classes.txt names the folders in the order of the classes.

    Args and Yields: as `write_hugging_face`.
    """
    del count
    folders = _unique([_file_name(name) for name in class_names])

    def write(labeled: Labeled) -> None:
        first = labeled.answers.first.tolist()
        for index, name, pixels, class_index in zip(
            labeled.indices.tolist(), labeled.names, labeled.pixels, first, strict=True
        ):
            folder = place.directory / folders[class_index]
            folder.mkdir(exist_ok=True)
            base = f"{index:08d}-{_file_name(name.rpartition('/')[2])}"
            original = None if place.originals is None else place.originals / name
            if original is not None and original.is_file():
                (folder / base).symlink_to(original.resolve())
            else:
                (folder / f"{base}.png").write_bytes(_as_png(pixels))

    yield write
    (place.directory / "classes.txt").write_text("".join(f"{name}\n" for name in folders), encoding="utf-8")


IMAGE_FORMS: dict[str, Callable[[Place, list[str], int], AbstractContextManager[Writer]]] = {
    "huggingface": write_hugging_face,
    "imagefolder": write_image_folder,
}


def _as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _file_name(name):
    """The end of a name as one that every file system takes."""
    return _NO_NAME.sub("_", name)[-_LONGEST:].lstrip(". ").rstrip(" ") or "_"


def _unique(names):
    """The names, those that several classes have with the classes' numbers."""
    times = collections.Counter(names)
    return [f"{name} ({i})" if times[name] > 1 else name for i, name in enumerate(names)]
