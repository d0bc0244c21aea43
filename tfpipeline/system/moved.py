"""Where modules lay before they had rooms: their old names still import, with a warning that says the new one.

So scripts and notebooks written for version 0.1 go on; version 0.3 will not have this file any more.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings

MOVED = {
    "tfpipeline.archives": "tfpipeline.images.archives",
    "tfpipeline.augment": "tfpipeline.batches.augmentation",
    "tfpipeline.checkpoint": "tfpipeline.training.checkpoint",
    "tfpipeline.decoding": "tfpipeline.images.decoding",
    "tfpipeline.errors": "tfpipeline.system.errors",
    "tfpipeline.evaluation": "tfpipeline.training.evaluation",
    "tfpipeline.image_store": "tfpipeline.images.store",
    "tfpipeline.mixing": "tfpipeline.batches.mixing",
    "tfpipeline.order": "tfpipeline.batches.order",
    "tfpipeline.progress": "tfpipeline.system.console",
    "tfpipeline.run_directory": "tfpipeline.training.run_directory",
    "tfpipeline.saving": "tfpipeline.training.saver",
    "tfpipeline.shapes": "tfpipeline.images.shapes",
    "tfpipeline.sources": "tfpipeline.images.sources",
    "tfpipeline.trainer": "tfpipeline.training.trainer",
    "tfpipeline.truth": "tfpipeline.images.truth",
    "labeling.comparison": "labeling.enlarging.comparison",
    "labeling.export": "labeling.labels.export",
    "labeling.interpolation": "labeling.enlarging.interpolation",
    "labeling.label_spec": "labeling.labels.spec",
    "labeling.label_store": "labeling.labels.store",
    "labeling.quality": "labeling.labels.quality",
    "labeling.registry": "labeling.teachers.registry",
    "labeling.verification": "labeling.labels.verification",
    "models.activations": "models.layers.activation",
    "models.normalization": "models.layers.normalization",
    "jobs.training_data": "jobs.training.data",
}
RENAMED = {"tfpipeline.image_store": {"open_or_build": "open_images", "build": "build_store"}}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module of the old names, which holds what the new one holds."""

    def find_spec(self, fullname, path=None, target=None):
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec):
        old, new = spec.name, MOVED[spec.name]
        warnings.warn(f"{old} is {new} now; import from there", DeprecationWarning, stacklevel=2)
        module, now = types.ModuleType(old, f"Moved to {new}."), importlib.import_module(new)
        renamed = RENAMED.get(old, {})
        module.__getattr__ = lambda name: getattr(now, renamed.get(name, name))
        return module

    def exec_module(self, module):
        """All that it has is there already."""


def redirect() -> None:
    """Lets the old names import."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
