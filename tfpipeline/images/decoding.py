"""Bytes of an image file to RGB, by rules that are stated here and hold for every source.

The content decides about the format, not the name: `FORMATS` are read. Everything becomes uint8 (H, W, 3), C order:

- animated files give their first frame, files of several sizes the largest picture;
- EXIF orientation is applied, other metadata and color profiles are ignored, and odd metadata never refuse pixels;
- transparency is composited over white;
- `size` crops the largest centered square and resamples it: box averaging when it shrinks, bicubic when it grows.

| mode of Pillow | what is read |
|---|---|
| 1, L, LA | gray, repeated three times |
| P, PA | the colors of the palette |
| RGB, RGBA, RGBX | as they are |
| CMYK, YCbCr | converted as Pillow does |
| I;16 in any byte order, I of a PGM | gray of 16 bits: the upper 8 of them |
| F, I of 32 bits, signed ones, LAB and all others | refused: their range is not stated, or there is no rule |

Of 16 bits per channel the upper 8 are kept, in gray and in color. A TIFF may state fewer, such as 12: then it is the
upper 8 of these. Pixels that reach less than a quarter of 16 bits are refused where nothing is stated, because 8 to 14
bits in 16 look so, and nearly black when read.

More than 64 million pixels and damaged files are refused. Damage is what the format can tell: PNG has checksums, JPEG
has none.
"""

import contextlib
import functools
import io
import typing
import warnings
import zlib

import numpy as np
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

# Formats that need another program (EPS runs Ghostscript), hold no pixels or have no signature stay out.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "ICNS", "CUR", "DDS", "DIB"),
    *("PCX", "DCX", "PSD", "QOI", "SGI", "SUN", "XBM", "XPM", "TGA"),
)
MAX_PIXELS = 64_000_000
MAX_BYTES = 256_000_000  # of one encoded image

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_SCAN, _JPEG_EXIF, _JPEG_ADOBE, _JPEG_COMMENT = 0xDA, 0xE1, 0xEE, 0xFE  # kinds of segments
_TGA_END = b"TRUEVISION-XFILE.\0"  # the only mark that a TGA may have
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # beside gray of 16 bits
_GRAY_OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the EXIF tag of orientation
_ORIENTATION = 0x0112

_DARKEST = 1 << 14  # what pixels of 16 bits reach at least, where no other range is stated

# Tags of TIFF.
_BITS, _PHOTOMETRIC, _MAX_SAMPLE, _PLANAR, _COLOR_MAP, _SAMPLE_FORMAT = 258, 262, 281, 284, 320, 339
_WHITE_IS_ZERO, _SEPARATE_PLANES, _SIGNED = 0, 2, 2  # values of _PHOTOMETRIC, _PLANAR and _SAMPLE_FORMAT


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
            return resample(_rgb(_open(content)), size)
    except BrokenImage:
        raise
    except Image.UnidentifiedImageError:
        raise BrokenImage(f"is none of {', '.join(known_formats())}") from None
    except Image.DecompressionBombError:
        raise BrokenImage(f"has more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:
        # Over damaged bytes Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, IndexError...
        raise BrokenImage(f"cannot be decoded ({type(error).__name__}: {error})") from error


@functools.cache
def known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this version of Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(content):
    formats = known_formats()
    if not content.endswith(_TGA_END):
        formats = tuple(name for name in formats if name != "TGA")
    try:
        return Image.open(io.BytesIO(content), formats=formats)
    except Image.UnidentifiedImageError:
        if not content.startswith(_JPEG_SIGNATURE):
            raise
        return Image.open(io.BytesIO(_without_metadata(content)), formats=("JPEG",))


def _without_metadata(jpeg):
    """A JPEG without the segments that only tell of it, over which Pillow can fail although its pixels are whole.

    EXIF stays, and so does a whole segment of Adobe's, which says how the colors are meant.
    """
    kept, position = [jpeg[:2]], 2
    while len(jpeg) > position + 4 and jpeg[position] == 0xFF and (kind := jpeg[position + 1]) != _JPEG_SCAN:
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4])
        segment = jpeg[position:end]
        is_metadata = kind == _JPEG_COMMENT or (kind in range(0xE0, 0xF0) and kind not in (_JPEG_EXIF, _JPEG_ADOBE))
        if not (is_metadata or (kind == _JPEG_ADOBE and len(segment) < 16)):
            kept.append(segment)
        position = end
    return b"".join((*kept, jpeg[position:]))


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


def _rgb(image: Image.Image) -> Image.Image:
    _check_size(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    tiles = typing.cast(ImageFile.ImageFile, image).tile
    has_16_bits = max(tags.get(_BITS, (0,))) > 8 or any(";16" in str(tile) for tile in tiles)
    _prepare_tiff(image, tags)
    image.load()
    _check_size(image)  # Icons hold files of their own.
    format = image.format
    image = _turn_upright(image)
    if image.mode == "F":
        raise BrokenImage("has float pixels, whose range is not stated")
    if image.mode in _GRAY_OF_16_BITS or (image.mode == "I" and format in ("PNG", "PPM")):
        return _gray_of_16_bits(image, format, tags)
    if image.mode == "I":
        raise BrokenImage("has 32-bit pixels, whose range is not stated")
    if image.mode not in _MODES:
        raise BrokenImage(f"has {image.mode} color, which has no rule")
    if has_16_bits and image.mode != "CMYK":
        _check_colors_of_16_bits(image)
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _check_size(image):
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"has {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if width * height == 0:
        raise BrokenImage("has no pixels")


def _prepare_tiff(image, tags):
    """Sets right what Pillow reads wrong without a word, or refuses it."""
    bits = max(tags.get(_BITS, (0,)))
    if bits in (8, 16) and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise BrokenImage(f"has signed {bits}-bit pixels, whose range is not stated")
    if bits > 8 and tags.get(_PLANAR) == _SEPARATE_PLANES and len(tags[_BITS]) > 1:
        raise BrokenImage(f"has {bits}-bit channels in separate planes, which have no rule")
    color_map = tags.get(_COLOR_MAP, ())
    if image.mode in ("P", "PA") and 0 < max(color_map, default=0) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(color_map))  # Some write 8 bits where 16 belong.


def _turn_upright(image):
    """The image as its EXIF orientation says, where it says one."""
    orientation = None
    with contextlib.suppress(Exception):  # Odd metadata raise nearly anything, and say nothing of the pixels.
        orientation = image.getexif().get(_ORIENTATION)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _gray_of_16_bits(image, format, tags):
    wide = np.asarray(image)
    brightest = int(wide.max())
    bits = 16 if format == "PPM" else _stated_bits(tags)
    if bits is None or brightest >> bits:
        _check_reach(brightest)
        bits = 16
    gray = (wide >> (bits - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        gray = 255 - gray
    transparent = image.info.get("transparency")
    if transparent is not None:
        gray[wide == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _stated_bits(tags):
    """How many of 16 bits a TIFF uses by what it says, or None."""
    largest = tags.get(_MAX_SAMPLE, 0)
    largest = max(largest) if isinstance(largest, tuple) else largest
    if max(tags.get(_BITS, (0,))) == 12:
        return 12
    return int(largest).bit_length() if largest in [(1 << bits) - 1 for bits in range(9, 16)] else None


def _check_reach(brightest):
    if 0 < brightest < _DARKEST:
        raise BrokenImage(
            f"has pixels of 16 bits that reach only {brightest:,}, as {max(brightest.bit_length(), 8)} bits would, and"
            " does not state which (scale them to all 16)"
        )


def _check_colors_of_16_bits(image):
    """Pillow has dropped the lower 8 bits of each channel."""
    if isinstance(image.info.get("transparency"), tuple):
        raise BrokenImage("has a transparent color of 16 bits, which has no rule")
    ranges = dict(zip(image.getbands(), np.reshape(image.getextrema(), (-1, 2)).tolist(), strict=True))
    _check_reach(max(high for band, (_, high) in ranges.items() if band != "A") << 8)


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
