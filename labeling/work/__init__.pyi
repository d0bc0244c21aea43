from . import gate as gate
from . import labeler as labeler
from . import on_beam as on_beam
from . import runtime_choice as runtime_choice
from . import runtimes as runtimes
from .answerer import Answerer as Answerer
