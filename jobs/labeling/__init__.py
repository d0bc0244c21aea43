"""What jobs.label_imagenet64 makes of its flags, config, task and modes; and how the bundled teacher is made."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
