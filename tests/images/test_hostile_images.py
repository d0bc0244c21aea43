"""Hostile and odd image files: each is read by the rule stated in `decoding`, or refused by name."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tfpipeline.images.decoding import BrokenImage, decode
from tfpipeline.system.errors import UserError

RGB = pixels_of(0)
GRAY = RGB[..., 0]
ALPHA = pixels_of(1)[..., 0]
WIDE = np.random.default_rng(2).integers(0, 1 << 16, (5, 7, 3), dtype=np.uint16)
SWAPPED = RGB[..., ::-1]


def as_rgb(gray):
    return np.repeat(gray[..., None], 3, axis=2)


def png(width, height, bits, color, rows, *chunks):
    """A PNG written by hand. `rows` are the bytes of the scan lines without their filter bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


def palette(pixels, **options):
    image = Image.fromarray(pixels).quantize(16)
    return encoded(image, "PNG", **options), np.asarray(image.convert("RGB"))


def over_white(color, alpha):
    """Pillow's composite in exact arithmetic may differ by one."""
    part = alpha[..., None] / 255
    return color * part + 255 * (1 - part)


def frames(form, **options):
    return encoded(
        Image.fromarray(RGB), form, save_all=True, append_images=[Image.fromarray(SWAPPED)], duration=9, **options
    )


def with_orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return encoded(RGB, "PNG", exif=exif)


def with_text_bomb():
    note = PngImagePlugin.PngInfo()
    note.add_text("x", "0" * 50_000_000, zip=True)
    return encoded(RGB, "PNG", pnginfo=note)


def flipped(content, position, bit=4):
    damaged = bytearray(content)
    damaged[position] ^= bit
    return bytes(damaged)


CMYK = Image.fromarray(RGB).convert("CMYK")
JPEG = encoded(np.full((16, 16, 3), (200, 30, 60), np.uint8), "JPEG", quality=95)
PALETTE, PALETTE_PIXELS = palette(RGB)
STRIP = np.arange(1_000_000, dtype=np.uint32).astype(np.uint8)

READ = {
    "rgb": (encoded(RGB), RGB),
    "grayscale": (encoded(GRAY), as_rgb(GRAY)),
    "one bit": (encoded(Image.fromarray(GRAY > 99)), as_rgb(np.where(GRAY > 99, 255, 0))),
    "palette": (PALETTE, PALETTE_PIXELS),
    "gray of 16 bits": (encoded(WIDE[..., 0]), as_rgb(WIDE[..., 0] >> 8)),
    "rgb of 16 bits": (png(7, 5, 16, 2, [row.astype(">u2").tobytes() for row in WIDE]), WIDE >> 8),
    "gray of 16 bits in TIFF": (encoded(WIDE[..., 0], "TIFF"), as_rgb(WIDE[..., 0] >> 8)),
    "gray of 2 bits": (png(4, 1, 2, 0, [b"\x1b"]), as_rgb(np.array([[0, 85, 170, 255]]))),
    "BMP": (encoded(RGB, "BMP"), RGB),
    "PPM": (encoded(RGB, "PPM"), RGB),
    "TIFF": (encoded(RGB, "TIFF", compression="tiff_lzw"), RGB),
    "WebP": (encoded(RGB, "WEBP", lossless=True), RGB),
    "CMYK in TIFF": (encoded(CMYK, "TIFF"), RGB),
    "first frame of GIF": (frames("GIF"), np.asarray(Image.open(io.BytesIO(encoded(RGB, "GIF"))).convert("RGB"))),
    "first frame of WebP": (frames("WEBP", lossless=True), RGB),
    "first frame of PNG": (frames("PNG"), RGB),
    "first page of TIFF": (frames("TIFF"), RGB),
    "orientation 1": (with_orientation(1), RGB),
    "orientation 2": (with_orientation(2), RGB[:, ::-1]),
    "orientation 3": (with_orientation(3), RGB[::-1, ::-1]),
    "orientation 4": (with_orientation(4), RGB[::-1]),
    "orientation 5": (with_orientation(5), RGB.transpose(1, 0, 2)),
    "orientation 6": (with_orientation(6), RGB.transpose(1, 0, 2)[:, ::-1]),
    "orientation 7": (with_orientation(7), RGB.transpose(1, 0, 2)[::-1, ::-1]),
    "orientation 8": (with_orientation(8), RGB.transpose(1, 0, 2)[::-1]),
    "orientation 99": (with_orientation(99), RGB),
    "opaque alpha": (encoded(np.dstack([RGB, np.full_like(ALPHA, 255)])), RGB),
    "clear alpha": (encoded(np.dstack([RGB, np.zeros_like(ALPHA)])), np.full_like(RGB, 255)),
    "a transparent color": (
        png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", bytes([0, 1, 0, 2, 0, 3]))),
        np.array([[[255, 255, 255], [4, 5, 6]]]),
    ),
    "a transparent gray": (
        png(2, 1, 8, 0, [bytes([9, 70])], (b"tRNS", bytes([0, 9]))),
        np.array([[[255, 255, 255], [70, 70, 70]]]),
    ),
    "a transparent palette entry": (
        png(2, 1, 8, 3, [bytes([0, 1])], (b"PLTE", bytes([9, 9, 9, 40, 50, 60])), (b"tRNS", bytes([0]))),
        np.array([[[255, 255, 255], [40, 50, 60]]]),
    ),
    "a strip a million pixels wide": (encoded(STRIP[None]), as_rgb(STRIP[None])),
    "bytes after the end": (encoded(RGB) + b"PK\x03\x04" + bytes(99), RGB),
    "a broken color profile": (encoded(RGB, icc_profile=b"no profile"), RGB),
    "one pixel": (encoded(RGB[:1, :1]), RGB[:1, :1]),
}

NONE_OF = "is none of PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM"
REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"no image", NONE_OF),
    "an HTML page saved as an image": (b"<!DOCTYPE html><html>404</html>", NONE_OF),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch x) run\n", NONE_OF),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', NONE_OF),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), NONE_OF),
    "pickle": (pickle.dumps({"data": [1]}), NONE_OF),
    "zeros": (bytes(4096), NONE_OF),
    "signature only": (b"\x89PNG\r\n\x1a\n", "is truncated"),
    "truncated PNG": (encoded(RGB)[:-30], "is truncated"),
    "JPEG cut in its header": (JPEG[: len(JPEG) // 2], "cannot be decoded .*Truncated"),
    "JPEG cut in its pixels": (encoded(pixels_of(0, 64, 64), "JPEG")[:-500], "cannot be decoded .*truncated"),
    "truncated GIF": (encoded(RGB, "GIF")[:-40], "cannot be decoded"),
    "truncated WebP": (encoded(RGB, "WEBP")[:-20], "cannot be decoded"),
    "truncated BMP": (encoded(RGB, "BMP")[:-20], "cannot be decoded .*truncated"),
    "truncated TIFF": (encoded(RGB, "TIFF")[:-40], "cannot be decoded"),
    "a flipped bit in pixels": (flipped(encoded(RGB), 60), "is damaged: the checksum of its part b'IDAT' is wrong"),
    "a flipped bit in the header": (flipped(encoded(RGB), 17), "is damaged: the checksum of its part b'IHDR' is wrong"),
    "a bomb of 2.5 billion pixels": (png(50_000, 50_000, 8, 0, []), "has more than 64,000,000 pixels"),
    "a bomb of 81 million pixels": (png(9_000, 9_000, 8, 0, []), "has 9000 x 9000 pixels, more than 64,000,000"),
    "a bomb of text": (with_text_bomb(), "cannot be decoded .*too large"),
    "no width": (png(0, 5, 8, 0, []), f"{NONE_OF}|has no pixels"),
    "no rows": (png(7, 5, 8, 0, []), "cannot be decoded"),
    "float pixels": (encoded(RGB[..., 0].astype(np.float32), "TIFF"), "has float pixels, whose range is not stated"),
    "pixels of 32 bits": (encoded(RGB[..., 0].astype(np.int32) << 20, "TIFF"), "has 32-bit pixels"),
    "Lab": (encoded(Image.fromarray(RGB).convert("LAB"), "TIFF"), "has LAB color, which has no rule"),
}


def test_there_are_forty_and_more():
    assert len(READ) + len(REFUSED) >= 55


@pytest.mark.parametrize("case", READ)
def test_odd_images_are_read_by_the_stated_rule(case):
    content, expected = READ[case]
    pixels = decode(content)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("case", REFUSED)
def test_others_are_refused_by_name_and_listed_when_left_out(tmp_path, case):
    content, reason = REFUSED[case]
    folder = write_folder(tmp_path / "in", {"bad.png": content, "good.png": encoded(RGB)})
    with pytest.raises(UserError, match=f"image bad.png ({reason}).*; get it again, or --skip-broken"):
        list(source_of(f"folder:{folder}"))
    source = source_of(f"folder:{folder}", skip_broken=True)
    assert [name for name, _, _ in source] == ["good.png"]
    assert source.skipped == ["bad.png"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.png", "good.png", "in"]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_over_white(mode):
    color = RGB if mode == "RGBA" else as_rgb(GRAY)
    channels = [RGB, ALPHA] if mode == "RGBA" else [GRAY, ALPHA]
    pixels = decode(encoded(np.dstack(channels)))
    assert np.abs(pixels - over_white(color, ALPHA)).max() <= 1  # Pillow rounds a product of bytes.


def test_cmyk_of_jpeg_is_converted_as_pillow_does():
    content = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)
    assert np.abs(decode(content).astype(int) - [0, 255, 255]).max() <= 2  # JPEG is lossy.


@pytest.mark.parametrize("name", ["x.jpg", "x.gif", "x.JPEG"])
def test_the_content_decides_about_the_format(tmp_path, name):
    ((_, pixels, _),) = source_of(f"folder:{write_folder(tmp_path, {name: encoded(RGB)})}")
    np.testing.assert_array_equal(pixels, RGB)


@pytest.mark.parametrize("size", [1, 4, 64])
def test_a_strip_is_cropped_before_it_is_resampled(size):
    pixels = decode(READ["a strip a million pixels wide"][0], size)
    np.testing.assert_array_equal(pixels, np.full((size, size, 3), STRIP[499_999]))


def test_no_flipped_bit_of_a_png_changes_pixels_silently():
    content = encoded(RGB)
    for position in range(len(content)):
        for bit in (1, 128):
            try:
                pixels = decode(flipped(content, position, bit))
            except BrokenImage:
                continue
            np.testing.assert_array_equal(pixels, RGB)


def test_random_bytes_after_a_signature_are_refused():
    rng = np.random.default_rng(0)
    for signature in (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"RIFF....WEBP",
        b"P6",
    ):
        for _ in range(40):
            with pytest.raises(BrokenImage):
                decode(signature + rng.bytes(300))
