"""One digest for all objects of a bucket, read from where its server keeps them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def of_rows(rows: Iterable[tuple[str, str]]) -> str:
    """``COUNT SHA256`` of objects given as name and SHA-256 of their bytes."""
    found = sorted(rows)
    whole = hashlib.sha256("".join(f"{digest} {name}\0" for name, digest in found).encode()).hexdigest()
    return f"{len(found)} {whole}"


def of_folder(folder: Path) -> str:
    """``of_rows`` of a folder whose files are objects, as versitygw keeps them."""

    def rows() -> Iterable[tuple[str, str]]:
        for place, folders, files in os.walk(folder):
            if ".sgwtmp" in folders:  # the gateway's own
                folders.remove(".sgwtmp")
            for file in files:
                path = Path(place, file)
                with path.open("rb") as data:
                    yield path.relative_to(folder).as_posix(), hashlib.file_digest(data, "sha256").hexdigest()

    return of_rows(rows())
