"""The work of labeling: the gate before it, runtimes and their choice, the answerer, and who does which shard."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
