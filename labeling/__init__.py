"""From images to a teacher's answers on disk.

Its rooms, each on top of those before it: labels, teachers, enlarging, work.
"""

import tfpipeline  # noqa: F401 - lets old names of modules import
