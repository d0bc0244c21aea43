"""The built-in sample pictures: twelve shapes that a person can name, drawn with Pillow from a seed.

Color, size, rotation, position, background, occlusion and noise vary independently of the shape, so that no single
pixel tells the class: a linear classifier on raw pixels fails where a small convolutional network succeeds.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64  # pixels, height and width
SUPERSAMPLING = 2  # masks are drawn this much larger and box-averaged, which makes soft edges
DEFAULT_COUNTS = {"train": 6000, "valid": 1000}
NAMES = (
    "arrow", "bolt", "circle", "crescent", "cross", "fish", "flower", "heart", "ring", "square", "star", "triangle",
)  # fmt: skip
VERSION = "1"  # of the drawing: goes up with every change that alters a picture

_SPLITS = tuple(DEFAULT_COUNTS)
_MINIMUM_CONTRAST = 90  # between the colors of shape and background, Euclidean in RGB
_RAMP = np.linspace(0, 2 * np.pi, SIZE, dtype=np.float32)


def draw(seed: int, split: str, index: int) -> tuple[np.ndarray, int]:
    """Picture `index` of a split and its class, a pure function of the three arguments.

    Args:
        seed: any non-negative integer; another seed gives another, disjoint series.
        split: "train" or "valid".
        index: the picture's number, from 0, without an upper end. Classes take turns: the class is index mod 12.

    Returns:
        (pixels, truth): uint8 (64, 64, 3), and the position of the class in `NAMES`.
    """
    rng = np.random.default_rng([seed, _SPLITS.index(split), index])
    truth = index % len(NAMES)
    ground = rng.uniform(0, 255, 3)
    picture = _texture(rng, ground, strength=rng.uniform(10, 70))
    fill = _texture(rng, _contrasting_color(rng, ground), strength=rng.uniform(0, 25))
    mask, clutter = _masks(rng, NAMES[truth])
    picture.paste(fill, mask=mask)
    if clutter is not None:
        picture.paste(tuple(rng.integers(0, 256, 3).tolist()), mask=clutter)
    noisy = rng.standard_normal((SIZE, SIZE, 3), np.float32)
    noisy *= np.float32(rng.uniform(0, 18))
    noisy += np.asarray(picture)
    return np.clip(noisy + np.float32(0.5), 0, 255, out=noisy).astype(np.uint8), truth


def _texture(rng, color, strength):
    """A picture of a colored surface: value noise of a random scale, or stripes. `strength` in gray levels."""
    if rng.random() < 0.25:
        direction, waves = rng.uniform(0, np.pi), rng.uniform(2, 9)
        down, right = (_RAMP * np.float32(waves * part) for part in (np.sin(direction), np.cos(direction)))
        wave = np.sin(down[:, None] + right)
        bands = Image.fromarray((127.5 + 127.5 * wave).astype(np.uint8))
        swing = rng.uniform(-1, 1, 3) * strength
        ends = [Image.new("RGB", bands.size, _clip(color + sign * swing)) for sign in (1, -1)]
        return Image.composite(*ends, bands)
    cells = int(rng.integers(2, 14))
    coarse = np.clip(color + rng.standard_normal((cells, cells, 3)) * strength, 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _clip(color):
    return tuple(np.clip(color, 0, 255).astype(int).tolist())


def _contrasting_color(rng, other):
    """A random RGB color that a person tells from `other`."""
    while True:
        color = rng.uniform(0, 255, 3)
        if np.linalg.norm(color - other) >= _MINIMUM_CONTRAST:
            return color


def _masks(rng, name):
    """(mask of the shape, mask of what hides parts of it or None), each a picture in gray with soft edges."""
    width = SIZE * SUPERSAMPLING
    radius = width * rng.uniform(0.20, 0.42)
    center = width / 2 + rng.uniform(-1, 1, 2) * (width / 2 - radius) * 0.9
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = radius * turn @ np.diag([1, rng.uniform(0.8, 1)])

    shape = Image.new("L", (width, width))
    pen = ImageDraw.Draw(shape)
    for outline, ink in _outlines()[name]:
        pen.polygon((outline @ linear.T + center).ravel().tolist(), fill=ink)

    clutter = None
    if rng.random() < 0.6:
        clutter = Image.new("L", (width, width))
        pen = ImageDraw.Draw(clutter)
        for _ in range(rng.integers(1, 4)):
            _scribble(rng, pen, center, radius)
    return shape.reduce(SUPERSAMPLING), clutter and clutter.reduce(SUPERSAMPLING)


def _scribble(rng, pen, center, radius):
    """Hides a little of the shape, or nothing: a bar across it, or a dot near its edge."""
    angle = rng.uniform(0, 2 * np.pi)
    middle = center + rng.uniform(0.5, 1.3) * radius * np.array([np.cos(angle), np.sin(angle)])
    if rng.random() < 0.5:
        along = rng.uniform(0, np.pi)
        half = np.array([np.cos(along), np.sin(along)]) * SIZE * SUPERSAMPLING
        pen.line([*(middle - half), *(middle + half)], fill=255, width=int(rng.integers(3, 9)))
    else:
        reach = radius * rng.uniform(0.10, 0.28)
        pen.ellipse([*(middle - reach), *(middle + reach)], fill=255)


@functools.cache
def _outlines():
    """Class name -> polygons ((n, 2) points within the unit circle, x right, y down) with their ink, drawn in order."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    around = _polar(1.0, turn)
    inner = np.linspace(-0.72, 0.72, 24) * np.pi
    # The crescent: the long way around the unit circle, and back along the bite of a smaller one.
    bite = np.linspace(1, -1, 24) * 0.66 * np.pi
    crescent = np.concatenate([_polar(1.0, inner + np.pi), _polar(0.78, bite + np.pi) + np.array([0.42, 0])])
    heart = np.stack(
        [16 * np.sin(turn) ** 3, -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))],
        axis=1,
    )
    body = np.linspace(-0.86, 0.86, 32) * np.pi
    fish = np.concatenate([_polar(1.0, body) * [0.68, 0.46] + [0.32, 0.0], [[-1.0, -0.55], [-0.78, 0.0], [-1.0, 0.55]]])
    star = _polar(np.tile([1.0, 0.42], 5), np.linspace(0, 2 * np.pi, 10, endpoint=False))
    points = {
        "arrow": [[-1, -0.2], [0.1, -0.2], [0.1, -0.62], [1, 0], [0.1, 0.62], [0.1, 0.2], [-1, 0.2]],
        "bolt": [[0.25, -1], [-0.5, 0.15], [-0.05, 0.15], [-0.3, 1], [0.5, -0.25], [0.05, -0.25], [0.45, -1]],
        "circle": around * 0.9,
        "crescent": crescent,
        "cross": [[a * x, b * y] for a, b, corner in _CROSS_QUADRANTS for x, y in corner],
        "fish": fish,
        "flower": _polar(0.72 + 0.28 * np.cos(6 * turn), turn),
        "heart": (heart + np.array([0, 2.5])) / 15.5,
        "ring": around,
        "square": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.78,
        "star": star,
        "triangle": _polar(1.0, np.array([0, 2, 4]) * np.pi / 3),
    }
    holes = {"ring": around * 0.55, "flower": around * 0.2, "fish": around * 0.09 + [0.62, -0.14]}
    return {
        name: [(np.asarray(points[name], float), 255)] + ([(holes[name], 0)] if name in holes else []) for name in NAMES
    }


_CROSS_QUADRANTS = (
    (1, 1, [(0.95, 0.3), (0.3, 0.3), (0.3, 0.95)]),
    (-1, 1, [(0.3, 0.95), (0.3, 0.3), (0.95, 0.3)]),
    (-1, -1, [(0.95, 0.3), (0.3, 0.3), (0.3, 0.95)]),
    (1, -1, [(0.3, 0.95), (0.3, 0.3), (0.95, 0.3)]),
)


def _polar(radius, angle):
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
