"""Which files are images by their names, and how their names are written: as one line of text each.

- Left out are hidden files (a part of the path begins with a dot), `__MACOSX` and files not named like images.
- Names that lead out of their archive, and archives within archives, have a fault.
- Control characters, backslashes and bytes that are not UTF-8 are written as escapes (`\\n`, `\\udcff`).
"""

import re

# Files of these names are taken for images; what they are is decided by their content, and said where it is none.
_IMAGE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".svg", ".psd", ".tga", ".ico", ".eps"),
)
_ARCHIVE_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".7z", ".rar")
_NEEDS_ESCAPE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\]")


def escaped(name: str) -> str:
    """`name` as one line of valid text: control characters, backslashes and lone surrogates become escapes."""
    return _NEEDS_ESCAPE.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def examine(name: str) -> tuple[str | None, str | None]:
    """What the path of a file within a folder or an archive says.

    Returns:
        (the name to go by, or None where the file is left out; the fault of the name, or None).
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts):
        return None, None
    nested = is_archive(parts[-1])
    if not parts[-1].lower().endswith(_IMAGE_SUFFIXES) and not nested:
        return None, None
    fault = None
    if nested:
        fault = "is an archive within the archive; unpack it and give --images folder:DIR"
    if name.startswith("/") or ".." in parts:
        fault = "has a name that leads out of the archive"
    return escaped(("/" if name.startswith("/") else "") + "/".join(parts)), fault


def is_archive(name: str) -> bool:
    """Whether a file is named like an archive."""
    return name.lower().endswith(_ARCHIVE_SUFFIXES)
