"""Sources and stores of images by their spec and further flags."""

from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.sources import open_source
from tfpipeline.images.store import open_images
from tfpipeline.system.console import SILENT


def source_of(spec, split="train", **flags):
    """The source of `--images SPEC --split SPLIT` and further flags."""
    return open_source(ImageFlags(images=spec, split=split, **flags))


def store_of(spec, split="train", console=SILENT, **flags):
    """The store of the same."""
    return open_images(ImageFlags(images=spec, split=split, **flags), console)
