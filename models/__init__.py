"""Layers whose gradients are derived by hand, the networks made of them, losses and schedules.

The files beside this one are public; so are those of gradients/, one operation each. Layers come from `models.layers`.
"""

import tfpipeline  # noqa: F401 - lets old names of modules import
