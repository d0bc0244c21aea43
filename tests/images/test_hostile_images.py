"""Hostile and odd image files: each is read by the rule stated in `decoding`, or refused by name."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, strategies
from PIL import Image, PngImagePlugin

from tests.support.fuzz import fuzz
from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tfpipeline.images.decoding import FORMATS, BrokenImage, decode, known_formats
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


def tiff(tags, planes, order="<"):
    """A TIFF written by hand.

    Args:
        tags: number -> the values, all of 16 bits.
        planes: the bytes of each strip; of one, or of one for each channel.
        order: of the bytes, "<" or ">".
    """
    offsets, lengths = 273, 279
    tags = {259: [1], 262: [1], 277: [1], **tags, offsets: [0] * len(planes), lengths: [len(plane) for plane in planes]}
    start = 8 + 2 + 12 * len(tags) + 4
    for _ in range(2):  # Once for the length, and once with the offsets.
        entries, beside = b"", b""
        for number, values in sorted(tags.items()):
            kind, form = (4, "L") if number in (offsets, lengths) else (3, "H")
            content = struct.pack(f"{order}{len(values)}{form}", *values)
            if len(content) > 4:
                content, beside = struct.pack(f"{order}L", start + len(beside)), beside + content
            entries += struct.pack(f"{order}HHL", number, kind, len(values)) + content.ljust(4, b"\0")
        end = start + len(beside)
        tags[offsets] = [end + sum(tags[lengths][:i]) for i in range(len(planes))]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}LH", 8, len(tags))
    return head + entries + bytes(4) + beside + b"".join(planes)


def gray_tiff(gray, bits=16, order="<", **tags):
    """Tags are given as _281=[4095]."""
    height, width = gray.shape
    numbers = {int(number[1:]): values for number, values in tags.items()}
    rows = gray.astype(f"{order}u2").tobytes() if bits == 16 else b"".join(map(packed_12, gray))
    return tiff({256: [width], 257: [height], 258: [bits], 278: [height], **numbers}, [rows], order)


def packed_12(row):
    """12 bits of each value, one after the other."""
    bits = "".join(f"{value:012b}" for value in row)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def color_tiff(pixels, planar, **tags):
    """Of 16 bits, in one plane or three."""
    height, width = pixels.shape[:2]
    planes = [plane.astype("<u2").tobytes() for plane in (pixels.transpose(2, 0, 1) if planar else [pixels])]
    shape = {256: [width], 257: [height], 258: [16] * 3, 262: [2], 277: [3], 278: [height], 284: [2 if planar else 1]}
    return tiff(shape, planes)


def with_map(bits):
    """A TIFF of two colors by a map of so many bits."""
    colors = np.array([[10, 20, 30], [200, 100, 0]]) * (257 if bits == 16 else 1)
    table = np.concatenate([colors, np.zeros((254, 3), int)]).T.ravel().tolist()
    return tiff({256: [2], 257: [1], 258: [8], 262: [3], 278: [1], 320: table}, [b"\0\1"])


def pgm(largest, values):
    form = ">u2" if largest > 255 else "u1"
    return b"P5 %d 1 %d\n" % (len(values), largest) + np.array(values).astype(form).tobytes()


def jpeg_with(kind, content):
    """A JPEG with one more segment at its front."""
    return JPEG[:2] + bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content + JPEG[2:]


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


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_orientation(number):
    return encoded(RGB, "PNG", exif=exif_of(number))


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
GRAY_12 = WIDE[..., 0] >> 4  # 0..4095
TGA = encoded(RGB, "TGA")
STRIP = np.arange(1_000_000, dtype=np.uint32).astype(np.uint8)

READ = {
    "rgb": (encoded(RGB), RGB),
    "grayscale": (encoded(GRAY), as_rgb(GRAY)),
    "one bit": (encoded(Image.fromarray(GRAY > 99)), as_rgb(np.where(GRAY > 99, 255, 0))),
    "palette": (PALETTE, PALETTE_PIXELS),
    "gray of 16 bits": (encoded(WIDE[..., 0]), as_rgb(WIDE[..., 0] >> 8)),
    "rgb of 16 bits": (png(7, 5, 16, 2, [row.astype(">u2").tobytes() for row in WIDE]), WIDE >> 8),
    "gray of 16 bits in TIFF": (encoded(WIDE[..., 0], "TIFF"), as_rgb(WIDE[..., 0] >> 8)),
    "gray of 12 bits": (gray_tiff(GRAY_12, 12), as_rgb(GRAY_12 >> 4)),
    "gray of 12 bits in 16, as its TIFF says": (gray_tiff(GRAY_12, _281=[4095]), as_rgb(GRAY_12 >> 4)),
    "gray of 14 bits in 16, as its TIFF says": (gray_tiff(WIDE[..., 0] >> 2, _281=[16383]), as_rgb(WIDE[..., 0] >> 8)),
    "gray of 16 bits that a TIFF belittles": (gray_tiff(WIDE[..., 0], _281=[4095]), as_rgb(WIDE[..., 0] >> 8)),
    "gray of 16 bits, Motorola's order": (gray_tiff(WIDE[..., 0], order=">"), as_rgb(WIDE[..., 0] >> 8)),
    "gray of 16 bits, white is zero": (gray_tiff(WIDE[..., 0], _262=[0]), as_rgb(255 - (WIDE[..., 0] >> 8))),
    "gray of 16 bits, packed": (encoded(WIDE[..., 0], "TIFF", compression="tiff_lzw"), as_rgb(WIDE[..., 0] >> 8)),
    "black of 16 bits": (encoded(np.zeros_like(WIDE[..., 0])), np.zeros_like(RGB)),
    "dark gray of 16 bits": (encoded(np.array([[300, 1 << 14]], np.uint16)), as_rgb(np.array([[1, 64]]))),
    "a transparent gray of 16 bits": (
        png(2, 1, 16, 0, [struct.pack(">2H", 40000, 40001)], (b"tRNS", struct.pack(">H", 40001))),
        as_rgb(np.array([[156, 255]])),
    ),
    "rgb of 16 bits in TIFF": (color_tiff(WIDE, planar=False), WIDE >> 8),
    "PGM of 4 bits": (pgm(15, [0, 5, 15]), as_rgb(np.array([[0, 85, 255]]))),
    "PGM of 12 bits": (pgm(4095, [0, 2048, 4095]), as_rgb(np.array([[0, 128, 255]]))),
    "dark PGM of 16 bits": (pgm(65535, [0, 255, 4095]), as_rgb(np.array([[0, 0, 15]]))),
    "a color map of 16 bits": (with_map(16), np.array([[[10, 20, 30], [200, 100, 0]]])),
    "a color map of 8 bits where 16 belong": (with_map(8), np.array([[[10, 20, 30], [200, 100, 0]]])),
    "TIFF of orientation 6": (encoded(RGB, "TIFF", exif=exif_of(6)), RGB.transpose(1, 0, 2)[:, ::-1]),
    "JPEG 2000": (encoded(RGB, "JPEG2000", irreversible=False), RGB),
    "ICO": (encoded(pixels_of(0, 16, 16), "ICO", sizes=[(16, 16)]), pixels_of(0, 16, 16)),
    "the largest picture of ICO": (
        encoded(Image.new("RGB", (32, 32), "red"), "ICO", sizes=[(16, 16), (32, 32)]),
        np.full((32, 32, 3), (255, 0, 0)),
    ),
    "PCX": (encoded(RGB, "PCX"), RGB),
    "SGI": (encoded(RGB, "SGI"), RGB),
    "DDS": (encoded(RGB, "DDS"), RGB),
    "QOI": (encoded(RGB, "QOI"), RGB),
    "DIB": (encoded(RGB, "DIB"), RGB),
    "TGA": (TGA, RGB),
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
    "16-bit integers": (encoded(RGB[..., 0].astype(np.int32), "TIFF"), "has 32-bit pixels"),
    "signed pixels of 16 bits": (gray_tiff(WIDE[..., 0] >> 1, _339=[2]), "has signed 16-bit pixels, whose range"),
    "signed pixels of 8 bits": (
        tiff({256: [2], 257: [1], 258: [8], 278: [1], 339: [2]}, [b"ab"], ">"),
        "has signed 8-bit pixels",
    ),
    "planes of 16 bits": (color_tiff(WIDE, planar=True), "has 16-bit channels in separate planes, which have no rule"),
    "12 bits in 16": (
        encoded(GRAY_12),
        "has pixels of 16 bits that reach only [34],[0-9]{3}, as 12 bits would, and does",
    ),
    "14 bits in 16 of a TIFF": (encoded(WIDE[..., 0] >> 2, "TIFF"), "has pixels of 16 bits .* as 14 bits would"),
    "8 bits in 16": (
        encoded(GRAY.astype(np.uint16)),
        "has pixels of 16 bits that reach only 2[0-9]{2}, as 8 bits would",
    ),
    "color of 12 bits in 16": (
        png(7, 5, 16, 2, [row.astype(">u2").tobytes() for row in WIDE >> 4]),
        "has pixels of 16 bits that reach only 3,840, as 12 bits would, and does not state which",
    ),
    "color of 12 bits in a TIFF": (color_tiff(WIDE >> 4, planar=False), "has pixels of 16 bits .* as 12 bits would"),
    "a transparent color of 16 bits": (
        png(1, 1, 16, 2, [bytes([200] * 6)], (b"tRNS", bytes(6))),
        "has a transparent color of 16 bits, which has no rule",
    ),
    "a TGA without its mark": (TGA[:-26], NONE_OF),
    "PFM": (b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5), "has float pixels"),
    "Lab": (encoded(Image.fromarray(RGB).convert("LAB"), "TIFF"), "has LAB color, which has no rule"),
}


ODD_METADATA = {
    "EXIF that is none": jpeg_with(0xE1, b"Exif\0\0no TIFF"),
    "EXIF that points nowhere": jpeg_with(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "EXIF cut short": jpeg_with(0xE1, b"Exif\0\0" + exif_of(6).tobytes()[6:14]),
    "orientation as text": jpeg_with(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\2up\0\0\0\0\0\0"),
    "orientation as a fraction of zero": jpeg_with(
        0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\5\0\0\0\1\0\0\0\x1a\0\0\0\0" + bytes(8)
    ),
    "orientation 0": jpeg_with(0xE1, exif_of(0).tobytes()),
    "XMP of orientation 9": jpeg_with(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="9">'),
    "a profile cut short": jpeg_with(0xE2, b"ICC_PROFILE\0"),
    "several pictures that are none": jpeg_with(0xE2, b"MPF\0MM\0*\0\0\0\x08\xff\xff"),
    "Photoshop's block cut short": jpeg_with(0xED, b"Photoshop 3.0\08BIM\4\4"),
    "Adobe's segment cut short": jpeg_with(0xEE, b"Adobe\0"),
    "a JFIF head cut short": jpeg_with(0xE0, b"JFIF\0"),
}


@pytest.mark.parametrize("case", ODD_METADATA)
def test_odd_metadata_never_refuse_whole_pixels(case):
    np.testing.assert_array_equal(decode(ODD_METADATA[case]), decode(JPEG))


@pytest.mark.parametrize("position", range(0, 60, 3))
def test_damaged_exif_never_refuses_whole_pixels(position):
    exif = bytearray(exif_of(1).tobytes())
    exif[position % len(exif)] ^= 0xFF
    expected = decode(JPEG)
    np.testing.assert_array_equal(decode(jpeg_with(0xE1, b"Exif\0\0" + bytes(exif[6:]))), expected)


def test_avif_is_read_upright():
    halves = np.zeros((16, 24, 3), np.uint8)
    halves[:, 12:] = 255
    for orientation, expected in ((1, halves), (3, halves[:, ::-1]), (6, halves.transpose(1, 0, 2))):
        pixels = decode(encoded(halves, "AVIF", exif=exif_of(orientation)))
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 9  # It is lossy.


def test_every_suffix_of_the_formats_that_are_read_is_one_of_images(tmp_path):
    suffixes = [suffix for suffix, form in Image.registered_extensions().items() if form in (*FORMATS, "MPO")]
    assert {".png", ".jpg", ".jfif", ".mpo", ".jp2", ".j2k", ".avif", ".tga", ".qoi", ".dds", ".psd"} <= set(suffixes)
    folder = write_folder(tmp_path, {f"x{suffix.upper()}": encoded(RGB) for suffix in suffixes})
    assert len(list(source_of(f"folder:{folder}"))) == len(suffixes)


def test_a_pillow_that_lacks_a_format_reads_the_others(monkeypatch):
    Image.init()
    known_formats.cache_clear()
    with monkeypatch.context() as patch:
        patch.delitem(Image.OPEN, "AVIF")
        assert "AVIF" not in known_formats()
        np.testing.assert_array_equal(decode(encoded(RGB, "QOI")), RGB)
        with pytest.raises(BrokenImage, match="is none of PNG"):
            decode(b"no image")
    known_formats.cache_clear()


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".jxl", ".svg", ".eps"])
def test_images_of_formats_that_are_not_read_are_refused_by_name(tmp_path, suffix):
    write_folder(tmp_path, {f"a{suffix}": b"\0\0\0\x18ftypheic" + bytes(40), "b.png": encoded(RGB)})
    with pytest.raises(UserError, match=f"image a{suffix} is none of PNG"):
        list(source_of(f"folder:{tmp_path}"))


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


# Lossless ways to write a mode of Pillow.
FORMS = {
    "RGB": ("PNG", "BMP", "TIFF", "PPM", "WEBP", "QOI", "TGA", "SGI", "JPEG2000"),
    "L": ("PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "JPEG2000"),
    "1": ("PNG", "BMP", "TIFF", "PPM", "XBM"),
    "RGBA": ("PNG", "TIFF", "WEBP", "QOI", "TGA"),
    "LA": ("PNG", "TIFF", "TGA"),
    "I;16": ("PNG", "TIFF"),
    "P": ("PNG", "BMP", "TIFF", "GIF"),
}
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG2000": {"irreversible": False}}


def drawn(mode, height, width, seed):
    """(a random picture of a mode, what is to be read of it: exact, but for the rounding of what is transparent)."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (height, width, 4), np.uint8)
    color, gray, alpha = values[..., :3], values[..., 0], values[..., 3]
    if mode == "I;16":
        wide = rng.integers(0, 1 << 16, (height, width), np.uint16)
        wide[0, 0] = 40_000  # Wherever this is, 16 bits are meant.
        return Image.fromarray(wide), as_rgb(wide >> 8)
    if mode == "P":
        table = rng.integers(0, 256, (256, 3), np.uint8)
        image = Image.fromarray(gray)
        image.putpalette(table.tobytes())
        return image, table[gray]
    return {
        "RGB": (Image.fromarray(color), color),
        "L": (Image.fromarray(gray), as_rgb(gray)),
        "1": (Image.fromarray(gray > 99), as_rgb(np.where(gray > 99, 255, 0))),
        "RGBA": (Image.fromarray(values), over_white(color, alpha)),
        "LA": (Image.fromarray(np.dstack([gray, alpha])), over_white(as_rgb(gray), alpha)),
    }[mode]


@fuzz(200)
@given(strategies.data())
def test_a_random_picture_is_read_by_its_rule_and_a_damaged_one_never_as_another(data):
    draw = data.draw
    mode = draw(strategies.sampled_from(sorted(FORMS)))
    form = draw(strategies.sampled_from(FORMS[mode]))
    height, width = draw(strategies.integers(1, 9)), draw(strategies.integers(1, 9))
    image, expected = drawn(mode, height, width, draw(strategies.integers(0, 9)))
    content = encoded(image, form, **LOSSLESS.get(form, {}))
    damage = draw(strategies.sampled_from(["", "", "cut", "flip", "more"]))
    place = draw(strategies.integers(0, len(content) - 1))
    if damage == "cut":
        content = content[:place]
    elif damage == "flip":
        content = flipped(content, place, 1 << draw(strategies.integers(0, 7)))
    elif damage == "more":
        content += bytes(place) if form != "TGA" else b""  # The mark of TGA is its end.
    try:
        pixels = decode(content)
    except BrokenImage as error:
        assert damage in ("cut", "flip"), (form, mode)
        assert "\n" not in str(error)
        return
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.ndim == 3 and pixels.shape[-1] == 3
    if damage in ("", "more") or (form == "PNG" and damage == "flip"):
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).max() <= (1 if mode in ("RGBA", "LA") else 0), (form, mode)
