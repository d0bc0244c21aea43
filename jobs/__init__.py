"""What people run: one short file per command, from flags to a frozen dataclass to `run(config)`.

What several commands share is in training, labeling and reports.
"""

import tfpipeline  # noqa: F401 - lets old names of modules import
