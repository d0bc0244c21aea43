from . import class_map as class_map
from . import class_subset as class_subset
from . import conventions as conventions
from .flags import InputRange as InputRange
from .flags import TeacherFlags as TeacherFlags
from .onnx_files import find_onnx_program as find_onnx_program
from .teacher import Teacher as Teacher
from .teacher import load_teacher as load_teacher
