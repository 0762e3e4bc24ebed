"""Scores of many images: decoded in threads, scored in batches, kept on disk so that a moved threshold costs nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .preprocess import UnreadableImageError, prepare_file
from .session import Tagger

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scored:
    """What a tagger thinks of one image."""

    path: Path
    scores: np.ndarray | None
    """float32 [labels], probabilities; None where the image could not be read."""
    problem: str = ""
    """Why there are no scores, as a sentence with the path."""


@dataclass(frozen=True, eq=False)
class _Loaded:
    """An image on its way: either it has scores already, or pixels, or a problem."""

    path: Path
    key: str = ""
    scores: np.ndarray | None = None
    pixels: np.ndarray | None = None
    problem: str = ""


class ScoreCache:
    """Raw scores on disk, by model and image content: renamed and copied images are known again.

    One small file for each image. A broken one counts as absent; if none can be written, tagging goes on without.
    """

    def __init__(self, folder: Path, model_fingerprint: str, num_labels: int):
        self._folder = folder / model_fingerprint[:16]
        self._num_labels = num_labels
        self._writable = True

    def key(self, path: Path) -> str:
        """Of the content of the image file. Raises OSError."""
        return content_key(path)

    def read(self, key: str) -> np.ndarray | None:
        try:
            with self._file(key).open("rb") as file:
                scores = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return scores if scores.shape == (self._num_labels,) and scores.dtype == np.float32 else None

    def write(self, key: str, scores: np.ndarray) -> None:
        if not self._writable:
            return
        temporary = self._folder / f".{key}.{os.getpid()}.{threading.get_ident()}.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, scores.astype(np.float32), allow_pickle=False)
            temporary.replace(self._file(key))
        except OSError as error:
            self._writable = False
            _log.warning("Scores cannot be kept in %s (%s); tagging goes on, but the next time takes as long.", self._folder, error)
            _remove(temporary)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.npy"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        _log.debug("left behind: %s", path)


def content_key(path: Path) -> str:
    """Of the content of a file, 40 hexadecimal digits: renamed and copied images have the same. Raises OSError."""
    stat = path.stat()
    return _content_key(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 17)
def _content_key(path: str, size_bytes: int, mtime_ns: int) -> str:  # size and time: a changed file is read again
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:40]


def tag_images(
    tagger: Tagger,
    paths: Sequence[Path],
    *,
    batch_size: int = 4,
    num_threads: int | None = None,
    cache_folder: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Scored]:
    """One `Scored` for each of `paths`, in their order, as soon as it is known.

    An image that cannot be read has a problem instead of scores and ends nothing. `on_progress` is called with the number of
    images done and of all, after each; what it raises ends the run. With a `cache_folder`, images that this model has scored
    before are not decoded, and if all are, the model is not even loaded.
    Raises TaggerError if the model cannot be loaded or fails.
    """
    threads = num_threads or min(8, os.cpu_count() or 1)
    cache = None if cache_folder is None else ScoreCache(cache_folder, tagger.fingerprint, len(tagger.labels))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tagger")
    try:
        coming = _ahead(pool, lambda path: _load(tagger, path, cache), paths, num_ahead=2 * batch_size + threads)
        for num_done, scored in enumerate(_in_batches(tagger, coming, batch_size, cache), start=1):
            if on_progress is not None:
                on_progress(num_done, len(paths))
            yield scored
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, load: Callable[[Path], _Loaded], paths: Sequence[Path], num_ahead: int) -> Iterator[_Loaded]:
    """Loaded images in order, at most `num_ahead` of them in memory before they are asked for."""
    waiting: deque[Future[_Loaded]] = deque()
    for path in paths:
        waiting.append(pool.submit(load, path))
        if len(waiting) >= num_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _load(tagger: Tagger, path: Path, cache: ScoreCache | None) -> _Loaded:
    try:
        key = cache.key(path) if cache else ""
        if cache and (scores := cache.read(key)) is not None:
            return _Loaded(path, key, scores=scores)
        return _Loaded(path, key, pixels=prepare_file(path, tagger.preprocessing))
    except OSError as error:
        return _Loaded(path, problem=f"{path} cannot be read: {error.strerror or error}.")
    except UnreadableImageError as error:
        return _Loaded(path, problem=str(error))


def _in_batches(tagger: Tagger, images: Iterator[_Loaded], batch_size: int, cache: ScoreCache | None) -> Iterator[Scored]:
    """Scores in order. What needs no inference waits only for those before it, and never for more than a batch's worth."""
    held: list[_Loaded] = []
    num_pixels = 0
    for image in images:
        held.append(image)
        num_pixels += image.pixels is not None
        if num_pixels == 0 or num_pixels >= batch_size or len(held) >= 8 * batch_size:
            yield from _scored(tagger, held, cache)
            held, num_pixels = [], 0
    yield from _scored(tagger, held, cache)


def _scored(tagger: Tagger, images: Sequence[_Loaded], cache: ScoreCache | None) -> Iterator[Scored]:
    batch = [image.pixels for image in images if image.pixels is not None]
    fresh = iter(tagger.scores(np.stack(batch)) if batch else ())
    for image in images:
        scores = image.scores
        if image.pixels is not None:
            scores = next(fresh).copy()
            if cache:
                cache.write(image.key, scores)
        yield Scored(image.path, scores, image.problem)
