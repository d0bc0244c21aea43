"""Which files are images by their names, and how names are written: as one line of text each.

- Left out are hidden files (a part of the path begins with a dot), what systems make for themselves (`@eaDir`,
  `$RECYCLE.BIN`, `lost+found`, `Thumbs.db`, ...) and files that are not named like images. All of them are counted.
- Named like images are those with a suffix that Pillow knows for the formats that `decoding` reads, and those of
  formats that it does not read, such as HEIC: these are refused by name rather than missed.
- Names that lead out of their archive, and archives within archives, have a fault.
- Control characters, backslashes and bytes that are not UTF-8 are written as escapes (`\\n`, `\\udcff`).
"""

import functools
import re
import typing
import unicodedata

from PIL import Image

from tfpipeline.images.decoding import known_formats

# Reasons to leave a file out, to follow its number.
HIDDEN = "hidden"
OF_SYSTEMS = "made by systems"
NO_IMAGE = "not named like images"

_SUFFIXES_NOT_READ = (".heic", ".heif", ".jxl", ".svg", ".eps", ".wmf", ".emf")
_ARCHIVE_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".7z", ".rar")
_NEEDS_ESCAPE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\]")

# Folders and files of macOS, Synology, QNAP, Windows, ext4, Android; those that begin with a dot are hidden anyway.
_OF_SYSTEMS = re.compile(
    r"__MACOSX|Temporary Items|Network Trash Folder|TheVolumeSettingsFolder|Icon\r"
    r"|@eaDir|@tmp|@sharebin|#recycle|#snapshot|@Recycle|@Recently-Snapshot"
    r"|\$.*\.BIN|\$Extend|\$WinREAgent|RECYCLER|System Volume Information|FOUND\.\d{3}"
    r"|Thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|lost\+found|LOST\.DIR",
)
_OF_SYSTEMS_IN_ANY_CASE = ("@eadir", "$recycle.bin", "thumbs.db", "desktop.ini", "system volume information")


class Verdict(typing.NamedTuple):
    """What the path of a file says of it.

    Attributes:
        name: to go by.
        left_out: why it is no image; None for an image.
        fault: why it cannot be read although it is named like an image; or None.
    """

    name: str
    left_out: str | None = None
    fault: str | None = None


def escape_name(name: str) -> str:
    """`name` as one line of valid text: control characters, backslashes and lone surrogates become escapes."""
    return _NEEDS_ESCAPE.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def compose_name(name: str) -> str:
    """The form of `name` in which a letter and its accents are one character: names that look alike are equal by it."""
    return unicodedata.normalize("NFC", name)


def examine(path: str) -> Verdict:
    """What the path of a file within a folder or an archive, with "/" between its parts, says of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    root = "/" if path.startswith("/") else ""
    name = escape_name(root + "/".join(parts))
    if any(part.startswith(".") and part != ".." for part in parts):
        return Verdict(name, left_out=HIDDEN)
    if any(is_of_system(part) for part in parts):
        return Verdict(name, left_out=OF_SYSTEMS)
    nested = bool(parts) and is_archive(parts[-1])
    if not parts or not (nested or parts[-1].lower().endswith(_image_suffixes())):
        return Verdict(name, left_out=NO_IMAGE)
    fault = None
    if nested:
        fault = "is an archive within the archive; unpack it and give --images folder:DIR"
    if root or ".." in parts:
        fault = "has a name that leads out of the archive"
    return Verdict(name, fault=fault)


@functools.cache
def _image_suffixes() -> tuple[str, ...]:
    names = {*known_formats(), "MPO"}  # Pillow opens MPO as JPEG.
    suffixes = Image.registered_extensions()
    return (*_SUFFIXES_NOT_READ, *(suffix for suffix, name in suffixes.items() if name in names))


def is_of_system(part: str) -> bool:
    """Whether systems make folders or files of this name for themselves."""
    return part.lower() in _OF_SYSTEMS_IN_ANY_CASE or bool(_OF_SYSTEMS.fullmatch(part))


def is_archive(name: str) -> bool:
    """Whether a file is named like an archive."""
    return name.lower().endswith(_ARCHIVE_SUFFIXES)
