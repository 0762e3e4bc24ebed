"""Fetches a known tagger from Hugging Face (or GitHub) when someone asks for it. Nothing else in the tagger touches the network."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .errors import TaggerError
from .known import KnownTagger, RemoteFile, Site
from .models import how_to_get

UNFINISHED = ".downloading"
"""Beside the taggers; hidden, so that it is not taken for one. What a cut-off download left there is carried on."""

_POLL_SEC = 0.25
_CHILD = """
import sys
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
repository, path, folder = sys.argv[1:]
print(get_hf_file_metadata(hf_hub_url(repository, path)).size or 0, flush=True)
print(hf_hub_download(repository, path, local_dir=folder), flush=True)
"""

_RELEASE_CHILD = """
import pathlib, sys, urllib.error, urllib.request
url, target = sys.argv[1], pathlib.Path(sys.argv[2])
part = target.with_name(target.name + ".incomplete")
there = part.stat().st_size if part.exists() else 0
request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0", **({"Range": f"bytes={there}-"} if there else {})})
with urllib.request.urlopen(request, timeout=60) as answer:
    there = there if answer.status == 206 else 0
    size = there + int(answer.headers.get("Content-Length") or 0)
    print(size, flush=True)
    with part.open("ab" if there else "wb") as file:
        while block := answer.read(1 << 20):
            file.write(block)
if part.stat().st_size != size:
    raise ConnectionError(f"{url} was cut off after {part.stat().st_size} of {size} bytes")
part.replace(target)
"""
"""What was cut off is carried on where the server can."""

_GITHUB = "https://github.com"

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all; what it raises ends the download."""


class Fetch(Protocol):
    def __call__(self, repository: str, path: str, folder: Path, on_bytes: OnProgress) -> Path:
        """The file `path` of a repository, put somewhere below `folder`. Raises whatever goes wrong."""
        ...


def download_tagger(known: KnownTagger, folder: Path, *, fetch: Fetch | None = None, on_progress: OnProgress | None = None) -> Path:
    """The folder of `known` below `folder`, with all its files; those that are there already are left alone.

    A file comes to its place only when it is whole. `on_progress` raises to cancel; the next download goes on from there.
    `fetch` replaces huggingface_hub, which heeds HF_ENDPOINT for mirrors and HF_TOKEN, and the fetching of GitHub's releases.
    Raises TaggerError that says which file of which repository to put where by hand.
    """
    target = folder / known.name
    missing = [file for file in known.files if not (target / file.name).is_file()]
    report = _Progress(missing, on_progress)
    for file in missing:
        try:
            fetched = (fetch or _FETCHES[known.site])(known.repository, file.path, folder / UNFINISHED / known.name, report.of_file)
            report.finish(file, fetched.stat().st_size)
            target.mkdir(parents=True, exist_ok=True)
            fetched.replace(target / file.name)
        except TaggerError:
            raise
        except Exception as error:  # the library raises those of its HTTP client, of the system and its own
            reason = " ".join(str(error).split())[:300]
            mirror = "set HF_ENDPOINT to a mirror before ComfyUI starts, " if known.site == "Hugging Face" else ""
            raise TaggerError(
                f"{file.path} of {known.repository} could not be downloaded ({type(error).__name__}: {reason}). Try again, {mirror}or get the"
                f" files in another way. {how_to_get(known, folder)}"
            ) from error
    _remove_unfinished(folder / UNFINISHED / known.name)
    return target


class _Progress:
    """Bytes over all files. Sizes that the table lacks are learnt when their file begins."""

    def __init__(self, files: list[RemoteFile], tell: OnProgress | None):
        self._tell = tell
        self._coming_bytes = sum(file.size_bytes or 0 for file in files)
        self._done_bytes = 0

    def of_file(self, num_bytes: int, of_bytes: int) -> None:
        if self._tell is not None:
            self._tell(self._done_bytes + num_bytes, max(self._coming_bytes, self._done_bytes + max(num_bytes, of_bytes)))

    def finish(self, file: RemoteFile, size_bytes: int) -> None:
        self._coming_bytes += size_bytes - (file.size_bytes or 0)
        self._done_bytes += size_bytes
        self.of_file(0, 0)


def _fetch(repository: str, path: str, folder: Path, on_bytes: OnProgress) -> Path:
    """By huggingface_hub."""
    return fetch_in_child(_CHILD, (repository, path, str(folder)), folder, on_bytes) / path


def _fetch_release(repository: str, path: str, folder: Path, on_bytes: OnProgress) -> Path:
    """From GitHub."""
    file = folder / path.rsplit("/", 1)[-1]
    fetch_in_child(_RELEASE_CHILD, (f"{_GITHUB}/{repository}/{path}", str(file)), folder, on_bytes)
    return file


_FETCHES: dict[Site, Fetch] = {"Hugging Face": _fetch, "GitHub": _fetch_release}


def fetch_in_child(code: str, arguments: tuple[str, ...], folder: Path, on_bytes: OnProgress, count: Callable[[Path], int] | None = None) -> Path:
    """Fetches into `folder` in a process of its own, which can be ended at any moment, even while the network hangs.

    Its first line on stdout is the size in bytes; `count` tells how many have arrived in the folder.
    """
    counted = count or _growing_bytes
    folder.mkdir(parents=True, exist_ok=True)
    said, complained = folder / "said.log", folder / "complained.log"
    with said.open("wb") as out, complained.open("wb") as err:
        child = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=out, stderr=err, cwd=folder)
    try:
        while child.poll() is None:
            time.sleep(_POLL_SEC)
            sizes = said.read_text(encoding="utf-8", errors="replace").split("\n")
            on_bytes(counted(folder), int(sizes[0]) if len(sizes) > 1 and sizes[0].isdecimal() else 0)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode:
        raise ConnectionError(_reason(complained) or f"the download ended with code {child.returncode}")
    return folder


def _reason(complained: Path) -> str:
    """The last exception in what a process has written, with all its lines."""
    lines = [line.strip() for line in complained.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return " ".join(lines[starts[-1] if starts else -1 :])


def _growing_bytes(folder: Path) -> int:
    """Of the file that is being written at the moment."""
    sizes = []
    for path in folder.glob("**/*.incomplete"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue  # renamed since it was listed
    return max(sizes, default=0)


def _remove_unfinished(folder: Path) -> None:
    """All that the library keeps beside the files it has fetched."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    if folder.is_dir():
        folder.rmdir()
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
