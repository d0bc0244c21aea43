"""A teacher's answers on disk: the label store and its shards, verification, quality, export. No TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
