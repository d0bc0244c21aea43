"""What jobs.train, evaluate, report, export and experiment share: from flags to data, objective, optimizer and task.

Also what a run leaves behind, its network and how it counts the classes, and the sweeps of several runs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
