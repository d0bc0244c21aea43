"""How images come to a teacher's size: interpolations, views, several teachers as one, and what suits them best."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
