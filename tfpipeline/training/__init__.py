"""The training loop and all that survives it: trainer, checkpoints, run directory, evaluation.

It knows no teacher and no network: a `Task` says what is learned. Training on several machines is in distributed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
