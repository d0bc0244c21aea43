"""Images in, batches out; training and checkpoints. Knows no teacher and no network.

Its rooms, each on top of those before it: system, images and pictures, batches, training.
"""

from tfpipeline.system import redirect

redirect()
