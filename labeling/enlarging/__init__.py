"""How images come to a teacher's size: interpolations, several teachers and views as one, and what suits them best.

A `View` itself is parsed and cut in tfpipeline/images/views.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
