"""What a network's file says of itself, so that it can be used without the run that it comes from."""

import dataclasses
import json

RESIZING = "largest centered square; box averaging where it shrinks, bicubic where it grows"
"""How `tfpipeline.images` makes an image of any size as large as the network takes it."""
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Description:
    """How a network is fed, and what its answers mean.

    Attributes:
        class_names: what each class is called, each another name.
        input_size: (height, width) of the images that it learned from, in pixels.
    """

    class_names: tuple[str, ...]
    input_size: tuple[int, int]

    @property
    def side(self) -> int | None:
        """The side of the square that images become; None where the network takes no squares."""
        height, width = self.input_size
        return height if height == width else None

    def as_json(self) -> dict:
        """All of it, as plain values."""
        return {
            "format": FORMAT,
            "class_names": list(self.class_names),
            "input_size": list(self.input_size),
            "input": "float32 (B, height, width, 3), RGB in 0..255",
            "output": "logits (B, classes); their softmax is the probabilities",
            "resizing": RESIZING if self.side else "none: images of that size",
        }

    def to_json(self) -> str:
        """All of it, as the text of a file."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"

    def as_texts(self) -> dict[str, str]:
        """All of it, every value a text: lists as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in self.as_json().items()
        }


def tell_apart(names: list[str]) -> tuple[str, ...]:
    """The names, those that several classes share with their index behind them: two of ImageNet's are called crane."""
    return tuple(f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names))
