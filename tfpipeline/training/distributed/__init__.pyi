from . import strategies as strategies
from .cluster import read_cluster as read_cluster
from .workers import ALONE as ALONE
from .workers import Workers as Workers
