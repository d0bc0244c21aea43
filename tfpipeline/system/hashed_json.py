"""JSON files that carry a hash over all that they say, so that a damaged one is not believed."""

import hashlib
import json
import pathlib

from tfpipeline.system.files import write_file
from tfpipeline.system.tables import to_json

_HASH = "sha256"  # The last key.


def write_hashed(path: pathlib.Path, content: dict) -> None:
    """Writes a table as JSON, with a hash over it as the last key."""
    content = json.loads(to_json(content))  # As it is read again.
    write_file(path, (to_json({**content, _HASH: _hash_of(content)}, indent=2) + "\n").encode())


def read_hashed(path: pathlib.Path) -> dict | None:
    """The table that `write_hashed` wrote; None where there is no file.

    Raises:
        ValueError: the file is damaged; says how.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it is no table")
    last = next(reversed(content), None)
    rest = {name: value for name, value in content.items() if name != last}
    if last == _HASH and content[last] == _hash_of(rest):
        return rest
    if _HASH in content or (last is not None and content[last] == _hash_of(rest)):  # Under a damaged name.
        raise ValueError("it does not have the hash that it names")
    return content  # What was written by version 0.1 has no hash.


def _hash_of(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
