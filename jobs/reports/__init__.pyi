from . import evaluation as evaluation
from . import run as run
from . import sweep as sweep
