from .cluster import Cluster as Cluster
from .cluster import read_cluster as read_cluster
from .connection import Silent as Silent
from .strategies import Team as Team
from .strategies import build_strategy as build_strategy
from .strategies import connect_workers as connect_workers
from .workers import ALONE as ALONE
from .workers import Workers as Workers
