"""Bytes of an image file to RGB, by rules that are stated here and hold for every source.

The content decides about the format, not the name: PNG, JPEG, WebP, GIF, BMP, TIFF and PPM. Everything becomes uint8
(H, W, 3), C order:

- animated files give their first frame;
- EXIF orientation is applied, other metadata and color profiles are ignored;
- transparency is composited over white;
- gray is repeated three times, palettes are looked up, CMYK and YCbCr are converted as Pillow does;
- of 16 bits per channel the upper 8 are kept;
- `size` crops the largest centered square and resamples it: box averaging when it shrinks, bicubic when it grows.

What has no such rule (float pixels, Lab color, more than 64 million pixels, a damaged file) is refused. Damage is what
the format can tell: PNG has checksums, JPEG has none.
"""

import io
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

# Formats that need another program (EPS runs Ghostscript) or have no signature stay out.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 64_000_000
MAX_BYTES = 256_000_000  # of one encoded image
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # of Pillow, beside 16-bit gray
_ORIENTATION = 0x0112  # the EXIF tag


class BrokenImage(Exception):
    """An image that cannot be read, and why."""


def decode(content: bytes, size: int | None = None) -> np.ndarray:
    """The pixels of an image file.

    Args:
        content: the whole file.
        size: height and width of the result; None keeps those of the image.

    Returns:
        uint8 (H, W, 3), C order.

    Raises:
        BrokenImage: there is no rule for it, or it is damaged.
    """
    if not content:
        raise BrokenImage("is empty")
    if content.startswith(_PNG_SIGNATURE):
        _check_png_chunks(content)
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which is ignored anyway, and of big images, which are refused below.
            warnings.simplefilter("ignore")
            return resample(_rgb(Image.open(io.BytesIO(content), formats=FORMATS)), size)
    except BrokenImage:
        raise
    except Image.UnidentifiedImageError:
        raise BrokenImage(f"is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise BrokenImage(f"has more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:
        # Over damaged bytes Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, IndexError...
        raise BrokenImage(f"cannot be decoded ({type(error).__name__}: {error})") from error


def _check_png_chunks(content):
    """Raises BrokenImage where a checksum is wrong: Pillow alone decodes damaged pixels without a word."""
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(content):
            raise BrokenImage("is truncated")
        if zlib.crc32(content[position + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise BrokenImage(f"is damaged: the checksum of its part {kind!r} is wrong")
        position = end + 4


def _rgb(image):
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"has {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if width * height == 0:
        raise BrokenImage("has no pixels")
    image.load()
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BrokenImage("has float pixels, whose range is not stated")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _upper_byte(image)
    if image.mode not in _MODES:
        raise BrokenImage(f"has {image.mode} color, which has no rule")
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _upper_byte(image):
    wide = np.asarray(image)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise BrokenImage("has 32-bit pixels, whose range is not stated")
    return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")


def resample(image: Image.Image, size: int | None) -> np.ndarray:
    """The largest centered square of an RGB picture at `size` x `size`, or the whole picture where `size` is None.

    Box averaging (`PIL.Image.Resampling.BOX`, which made ImageNet 64x64) where the square is larger than `size`,
    bicubic where it is smaller.
    """
    if size is None or image.size == (size, size):
        return np.ascontiguousarray(image)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    method = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
    return np.ascontiguousarray(image.resize((size, size), method, box=(left, top, left + side, top + side)))


def resample_pixels(pixels: np.ndarray, size: int | None) -> np.ndarray:
    """`resample` for uint8 (H, W, 3)."""
    return pixels if size is None else resample(Image.fromarray(pixels), size)
