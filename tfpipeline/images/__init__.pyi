from . import shapes as shapes
from .flags import ImageFlags as ImageFlags
from .npz_source import resized_order as resized_order
from .store import ImageStore as ImageStore
from .store import default_cache as default_cache
from .store import map_images as map_images
from .store import open_images as open_images
