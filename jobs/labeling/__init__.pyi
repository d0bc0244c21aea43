from . import bundled_teacher as bundled_teacher
from . import modes as modes
from .config import Config as Config
from .status import print_status as print_status
from .task import build_task as build_task
