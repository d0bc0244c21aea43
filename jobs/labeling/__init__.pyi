from . import task as task
