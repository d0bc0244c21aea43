"""What every room stands on: errors, flags, the console, signals, files, locks and tables. No image, no tensor."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
