"""What images look like, kept in one file so that each has to be decoded only once."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..types import Sample

HASH_BYTES = 8
THUMBNAIL_BYTES = 3 * 16 * 16
LOOKS = "looks"
"""The folder for them, in the cache beside the run directories."""
_FILE = "looks.sqlite"
_VERSION = 1
_NUM_ASKED_AT_ONCE = 500


class LooksCache:
    """Looks (hash and thumbnail) by `look_key`. Without a folder, or where its file is unusable, it holds nothing."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> LooksCache:
        if self._folder is not None:
            self._connection = _opened(self._folder / _FILE)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of `keys` that are known."""
        found: dict[bytes, bytes] = {}
        if self._connection is None:
            return found
        with contextlib.suppress(sqlite3.Error):
            for start in range(0, len(keys), _NUM_ASKED_AT_ONCE):
                some = keys[start : start + _NUM_ASKED_AT_ONCE]
                rows = self._connection.execute(f"SELECT key, look FROM looks WHERE key IN ({','.join('?' * len(some))})", some)
                found |= {key: look for key, look in rows if len(look) == HASH_BYTES + THUMBNAIL_BYTES}
        return found

    def put(self, looks: Mapping[bytes, bytes]) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error), self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?)", list(looks.items()))


def look_key(sample: Sample) -> bytes:
    return hashlib.sha256(f"{sample.path}|{sample.fingerprint}".encode("utf-8", "surrogatepass")).digest()[:16]


def _opened(file: Path) -> sqlite3.Connection | None:
    for _ in range(2):
        connection = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(file, timeout=5)
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                connection.execute("DROP TABLE IF EXISTS looks")
                connection.execute("CREATE TABLE looks (key BLOB PRIMARY KEY, look BLOB NOT NULL) WITHOUT ROWID")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
                connection.commit()
            connection.execute("SELECT 1 FROM looks LIMIT 1").fetchone()
            return connection
        except sqlite3.OperationalError:  # locked, or no place to write
            if connection is not None:
                connection.close()
            return None
        except (sqlite3.Error, OSError):  # damaged: begin anew
            if connection is not None:
                connection.close()
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    return None
