"""How teachers are shown the images."""

import dataclasses
from typing import Literal

from tfpipeline.images import JOIN, parse_view
from tfpipeline.system.flags import Flags, flag

Method = Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area", "gaussian", "mitchellcubic"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnlargingFlags(Flags):
    """What the teachers see of an image."""

    interpolation: tuple[Literal[Method, "auto"], ...] = flag(
        (),
        "how images are enlarged to the teacher's size; auto measures a sample, without truth (default: bilinear)",
    )
    views: str = flag("identity", "what the teacher sees: identity, flip, crop:TOP:LEFT:SIZE, joined by commas")
    keep_views: bool = flag(
        False, "store the answer to each view instead of their mean, for training on the same views"
    )

    def view_names(self, height: int, width: int) -> tuple[str, ...]:
        """The views to store, by name: their mean as one, or each.

        Args:
            height: of the images, in pixels.
            width: likewise.

        Raises:
            FlagError: there is no such view, or it reaches over the edge of the images.
        """
        names = tuple(name.strip() for name in self.views.split(","))
        for name in names:
            parse_view(name).check_fits(height, width)
        return names if self.keep_views else (JOIN.join(names),)
