"""A split of a TensorFlow dataset as a source."""

import functools
import itertools
import pathlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

from tfpipeline.images.decoding import decode
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.places import expand, state_of
from tfpipeline.images.source import Source
from tfpipeline.images.splits import Splits
from tfpipeline.images.tfds_preparing import prepare, quiet_tfds
from tfpipeline.images.truth import Classes
from tfpipeline.system import FlagError, UserError, remove_old_scratch, require_utf8

_BATCH = 256  # examples that cross from TensorFlow to NumPy together
_WORDNET_ID = re.compile(r"n\d{8}")


class UnknownDataset(FlagError):
    """TensorFlow Datasets knows no dataset of this name."""


class TfdsSource(Source):
    """A split of a dataset with a feature `image`, in the order of its files, decoded by the rules of `decoding`.

    Names are the ids that TFDS gives to examples. The truth is the feature `label`, if there is one; classes named by
    WordNet ids come in the usual order, sorted, whatever their order in the dataset.

    Args:
        flags: `images` as `tfds.builder` takes it, such as "cifar10" or "imagenet_resized/64x64"; `data_dir`, where
            TFDS keeps its datasets, None for its own choice; `archives`, a folder with the files that the dataset would
            download, or None.

    Raises:
        UserError: the dataset is not prepared and its files are neither at hand nor to be had.
        FlagError: there is no such dataset or split, or it has no images.
    """

    def __init__(self, flags: ImageFlags):
        name, data_dir = str(flags.images), None if flags.data_dir is None else expand(flags.data_dir)
        if data_dir is not None:
            require_utf8(data_dir, "give another --data-dir")
        with quiet_tfds():
            self.builder = _builder(name, data_dir)
            features = dict(self.builder.info.features.items())
            prepared = self.builder.is_prepared()
        remove_old_scratch(pathlib.Path(self.builder.data_dir_root))
        image = features.get("image")
        if not isinstance(image, tfds.features.Image) or image.np_dtype == np.float32:
            raise FlagError(
                f"{name} has no feature 'image' of bytes, only {', '.join(features)}; give another --images"
            )
        notes = []
        if not prepared:
            notes = prepare(self.builder, None if flags.archives is None else expand(flags.archives))
            with quiet_tfds():
                self.builder = _builder(name, data_dir)  # It reads what is prepared now.
        self.version = str(self.builder.version)
        state = {"version": self.version, "files": state_of(pathlib.Path(self.builder.data_dir))}
        super().__init__(name, flags, state)
        self.notes += notes
        self._slices = self.splits.slices(flags.split)

    @property
    def splits(self) -> Splits:
        return Splits(self.spec, dict(self.builder.info.splits))

    @property
    def total(self) -> int:
        return sum(each.images for each in self._slices)

    @property
    def classes(self) -> Classes:
        return tuple((name, name) for name in self._class_names[0])

    @functools.cached_property
    def _class_names(self) -> tuple[list[str], list[int] | None]:
        """(names in the order of `classes`, that order's index of each label of the dataset)"""
        label = dict(self.builder.info.features.items()).get("label")
        if not isinstance(label, tfds.features.ClassLabel):
            return [], None
        names = label.names
        order = sorted(names) if all(map(_WORDNET_ID.fullmatch, names)) else names
        index_of = {name: i for i, name in enumerate(order)}
        return order, [index_of[name] for name in names]

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        index_of_label = self._class_names[1]
        for batch in self._batches():
            labels = batch["label"].tolist() if index_of_label else [-1] * len(batch["image"])
            for name, content, label in zip(batch["tfds_id"], batch["image"], labels, strict=True):
                read = functools.partial(decode, content, self.flags.size)
                yield name.decode(), read, index_of_label[label] if index_of_label and label >= 0 else None

    def _batches(self):
        """The examples as TFDS has them, images still encoded, so that all sources are decoded by the same rules."""
        wanted = ["image"] + (["label"] if self.classes else [])
        decoders = {"image": tfds.decode.SkipDecoding()}
        try:
            if self.builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
                yield from self._batches_by_index(wanted, decoders)
                return
            with quiet_tfds():
                examples = self.builder.as_dataset(
                    split=self.split,
                    shuffle_files=False,
                    read_config=tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=True, try_autocache=False),
                    decoders=decoders,
                )
            batches = examples.map(lambda example: {key: example[key] for key in [*wanted, "tfds_id"]}).batch(_BATCH)
            yield from batches.as_numpy_iterator()
        except Exception as error:
            # TensorFlow and TFDS raise nearly anything over damaged files.
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.spec}: the files in {self.builder.data_dir} cannot be read ({reason}); remove that directory"
                " and let it be prepared again"
            ) from error

    def _batches_by_index(self, wanted, decoders):
        """The same of ArrayRecord files, which TFDS reads by index, and without ids of examples."""
        for each in self._slices:
            split = self.builder.info.splits[each.split]
            lengths = list(zip(sorted(split.filepaths), split.shard_lengths, strict=True))
            for path, length in lengths:
                # As it is asked by index, what is behind the last one that is known would be lost without a word.
                if (found := ArrayRecordFileAdapter.num_examples(path)) != length:
                    raise ValueError(f"{path.name} holds {found:,} examples, dataset_info.json says {length:,}")
            ids = (f"{path.name}__{row}".encode() for path, length in lengths for row in range(length))
            ids = itertools.islice(ids, each.first, None)
            with quiet_tfds():
                source = self.builder.as_data_source(split=each.split, decoders=decoders)
            for first in range(each.first, each.last, _BATCH):
                rows = list(range(first, min(first + _BATCH, each.last)))
                examples = source.__getitems__(rows)
                columns = {key: np.array([example[key] for example in examples], object) for key in wanted}
                if any(value is None for column in columns.values() for value in column):
                    raise ValueError(f"a file of {each.split} ends before its examples do")
                yield columns | {"tfds_id": list(itertools.islice(ids, len(rows)))}


def _builder(name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise UnknownDataset(name) from error
    except Exception as error:
        # TFDS raises nearly anything over versions that are not there, packages that it misses and damaged files.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if reason.startswith("Parsing builder name string"):
            raise UnknownDataset(name) from error
        raise FlagError(f"--images {name}: {reason}") from error
