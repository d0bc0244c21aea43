"""Layers whose gradients are derived by hand, the networks made of them, what they learn from and become.

Networks and blocks, losses and the objective of them, sample weights, schedules, export.

The files beside this one are public; so are those of gradients/, one operation each. Layers come from `models.layers`.
"""

import tfpipeline  # noqa: F401 - lets old names of modules import
