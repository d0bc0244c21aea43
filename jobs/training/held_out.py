"""Which images a run does not learn from but is measured on: named ones, or a share of those to learn from."""

from jobs.training.config import Config, ValidationFlags
from tfpipeline.images import (
    ImageFlags,
    ImageStore,
    held_out_split,
    hold_out,
    parse_share,
    split_to_measure_on,
    splits_of,
)
from tfpipeline.system import FlagError, flags
from tfpipeline.training import checkpoint

_DEFAULT, _NONE = "10%", "none"
_SEED = 0  # The same images for every run: their figures can be compared.


def holds_out(validation: ValidationFlags) -> bool:
    """Whether a share of the images to learn from is held out."""
    return validation.hold_out not in (None, _NONE)


def split_store(store: ImageStore, validation: ValidationFlags) -> tuple[ImageStore, ImageStore]:
    """The images to learn from and those held out, where `holds_out`."""
    return hold_out(store, parse_share(str(validation.hold_out)), _SEED)


def settle_hold_out(config: Config, snapshot: checkpoint.Snapshot | None) -> Config:
    """The config with what is held out stated: as told, or as the run began, or for a new run the default.

    Where --validation-images are --images themselves, which have no other split, a share of them is held out.

    Args:
        config: the flags.
        snapshot: where a run goes on; None where one begins.

    Raises:
        FlagError: a share is held out and other images are named, too.
    """
    validation = config.validation
    named = [
        name
        for name in ("validation_images", "validation_split", "validation_truth", "validation_labels")
        if getattr(validation, name) is not None
    ]
    if named == ["validation_images"] and validation.validation_images == config.images.images:
        named_itself = held_out_split(splits_of(config.images)) is None and not validation.allow_overlap
    else:
        named_itself = False
    share = validation.hold_out
    if share is None and config.batches.overfit is None:
        if snapshot is not None:
            share = snapshot.config["experiment"].get("hold_out")
        elif named_itself:
            share = _DEFAULT
        elif not named and held_out_images(validation, config.images) is None:
            share = _DEFAULT if held_out_split(splits_of(config.images)) is None else None
    if share in (None, _NONE):
        return flags.change(config, hold_out=share)
    parse_share(share)
    if named_itself:
        return flags.change(config, hold_out=share, validation_images=None)
    if named:
        name = flags.flag_name(named[0])
        raise FlagError(f"--hold-out {share} and {name} both name held-out images; leave one of them out")
    return flags.change(config, hold_out=share)


def held_out_images(validation: ValidationFlags, images: ImageFlags) -> ImageFlags | None:
    """The held-out images that the flags name; None where they name none.

    Args:
        validation: which.
        images: those that are trained on; what `validation` leaves open is as there.
    """
    if validation.validation_images is None and validation.validation_split is None and images.images != "shapes":
        return None
    named = flags.change(
        images,
        images=validation.validation_images or images.images,
        truth=validation.validation_truth,
        limit=validation.validation_limit,
    )
    return flags.change(named, split=validation.validation_split or split_to_measure_on(named))
