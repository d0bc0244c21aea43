"""Pages, tables and pictures of a run, an evaluation, labels, interpolations, a sweep."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
