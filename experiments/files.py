"""Files that are there whole, or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a file under a temporary name and renames it: one that is killed leaves what was there before.

    Raises:
        OSError: if the folder is missing or cannot be written to; nothing is left of the file then.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        if temporary.is_file():
            temporary.unlink()
        raise
