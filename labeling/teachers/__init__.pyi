from . import class_subset as class_subset
from . import conventions as conventions
from . import teacher as teacher
from .teacher import Teacher as Teacher
from .teacher import load_teacher as load_teacher
