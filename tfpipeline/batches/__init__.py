"""From stored images to batches: order, random draws by counter, augmentation, mixing, replay, the tf.data dataset.

All of it is a pure function of seed and step, so that a training goes on from any step at the same cost.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
