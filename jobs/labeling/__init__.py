"""What the flags of jobs.label_imagenet64 make of teachers, interpolations and views."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
