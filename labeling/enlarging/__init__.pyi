from . import comparison as comparison
from . import interpolation as interpolation
from .expert import Expert as Expert
from .expert import answer_batch as answer_batch
from .expert import freeze as freeze
from .expert import most_probable as most_probable
from .flags import EnlargingFlags as EnlargingFlags
from .information import information_by_image as information_by_image
