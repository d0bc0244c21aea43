from . import comparison as comparison
from . import comparison_pictures as comparison_pictures
from . import interpolation as interpolation
from . import views as views
from .expert import Expert as Expert
from .expert import answer_filled as answer_filled
from .expert import freeze as freeze
