"""Arrays in, PNG out: contact sheets, curves, matrices. Nothing here knows what a picture is about."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
