from . import augmentation as augmentation
from . import order as order
from .augmentation import parse_augmentation as parse_augmentation
from .augmentation import replays as replays
from .dataset import training_batches as training_batches
from .mixing import loss_of_pairs as loss_of_pairs
from .mixing import parse_mixing as parse_mixing
