from . import data as data
from .data import answers_to_images as answers_to_images
from .data import hash_of_names as hash_of_names
from .data import truth_in_classes_of as truth_in_classes_of
from .task import build_task as build_task
from .task import check_snapshot as check_snapshot
from .task import open_validation as open_validation
