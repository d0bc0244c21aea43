"""Processes that train together: who they are, how they find each other, and how they agree on plain values."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
