"""A teacher by its spec: pixels of its size -> log-probabilities over its classes.

Loaders of every kind give a `Network`; `Conventions` say how it is fed and read; both are a `Teacher`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
