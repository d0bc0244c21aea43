"""A split of a TensorFlow dataset as a source."""

import functools
import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds

from tfpipeline.images.decoding import decode
from tfpipeline.images.file_source import state_of
from tfpipeline.images.source import Source
from tfpipeline.images.tfds_preparing import prepare, quiet_tfds
from tfpipeline.system import FlagError

_BATCH = 256  # examples that cross from TensorFlow to NumPy together
_WORDNET_ID = re.compile(r"n\d{8}")


class TfdsSource(Source):
    """A split of a dataset with a feature `image`, in the order of its files, decoded by the rules of `decoding`.

    Names are the ids that TFDS gives to examples. The truth is the feature `label`, if there is one; classes named by
    WordNet ids come in the usual order, sorted, whatever their order in the dataset.

    Args:
        name: as `tfds.builder` takes it, such as "cifar10" or "imagenet_resized/64x64".
        split: in TFDS's syntax, such as "train" or "test[:1000]".
        size: height and width to resample to, in pixels; None keeps those of the images.
        skip_broken: leave out images that cannot be read, rather than refuse.
        limit: the first so many images; None for all.
        data_dir: where TFDS keeps its datasets; None for its own choice.
        archives: a folder with the files that the dataset would download, or None.

    Raises:
        UserError: the dataset is not prepared and its files are neither at hand nor to be had.
        FlagError: there is no such dataset or split, or it has no images.
    """

    def __init__(self, name, split, size, skip_broken, limit, data_dir, archives):
        with quiet_tfds():
            self.builder = _builder(name, data_dir)
            features = dict(self.builder.info.features.items())
            prepared = self.builder.is_prepared()
        image = features.get("image")
        if not isinstance(image, tfds.features.Image) or image.np_dtype == np.float32:
            raise FlagError(
                f"{name} has no feature 'image' of bytes, only {', '.join(features)}; give another --images"
            )
        notes = [] if prepared else prepare(self.builder, archives)
        try:
            self._split_info = self.builder.info.splits[split]
        except (KeyError, ValueError):
            known = ", ".join(self.builder.info.splits)
            raise FlagError(f"{name} has no split {split!r}; give --split as one or a slice of {known}") from None
        self.version = str(self.builder.version)
        state = {"version": self.version, "files": state_of(pathlib.Path(self.builder.data_dir)), "size": size}
        super().__init__(name, split, state, skip_broken, limit)
        self.size, self.notes = size, notes

    @property
    def total(self):
        return self._split_info.num_examples

    @property
    def classes(self):
        return tuple((name, name) for name in self._class_names[0])

    @functools.cached_property
    def _class_names(self):
        """(names in the order of `classes`, that order's index of each label of the dataset)"""
        label = dict(self.builder.info.features.items()).get("label")
        if not isinstance(label, tfds.features.ClassLabel):
            return [], None
        names = label.names
        order = sorted(names) if all(map(_WORDNET_ID.fullmatch, names)) else names
        index_of = {name: i for i, name in enumerate(order)}
        return order, [index_of[name] for name in names]

    def read_all(self):
        index_of_label = self._class_names[1]
        for batch in self._batches().as_numpy_iterator():
            labels = batch["label"].tolist() if index_of_label else [-1] * len(batch["image"])
            for name, content, label in zip(batch["tfds_id"], batch["image"], labels, strict=True):
                read = functools.partial(decode, content, self.size)
                yield name.decode(), read, index_of_label[label] if label >= 0 else None

    def _batches(self):
        """The examples as TFDS has them, images still encoded, so that all sources are decoded by the same rules."""
        wanted = ["image", "tfds_id"] + (["label"] if self.classes else [])
        with quiet_tfds():
            examples = self.builder.as_dataset(
                split=self.split,
                shuffle_files=False,
                read_config=tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=True, try_autocache=False),
                decoders={"image": tfds.decode.SkipDecoding()},
            )
        return examples.map(lambda example: {key: example[key] for key in wanted}).batch(_BATCH)


def _builder(name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        raise FlagError(
            f"--images {name} is not known; give shapes, folder:DIR, archive:FILE, npz:FILE or a TFDS name like cifar10"
        ) from None
    except ValueError as error:
        raise FlagError(f"--images {name}: {str(error).splitlines()[0]}") from error
