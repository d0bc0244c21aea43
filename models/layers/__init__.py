"""The operations of models/gradients as Keras layers, in float32 or mixed precision."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
