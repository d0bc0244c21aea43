from . import evaluation as evaluation
from . import interpolations as interpolations
from . import labels as labels
from . import page as page
from . import pages as pages
from . import predictions as predictions
from . import run as run
from . import sweep as sweep
