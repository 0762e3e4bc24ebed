"""Fetches a known captioner, all the files of its repository that are needed, when someone asks for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from .captioners import KnownCaptioner, how_to_get
from .download import UNFINISHED, OnProgress, fetch_in_child
from .errors import TaggerError

_CHILD = """
import sys
from huggingface_hub import HfApi, hf_hub_download
repository, folder = sys.argv[1:]
files = {file.rfilename: file.size or 0 for file in HfApi().model_info(repository, files_metadata=True).siblings}
safe = any(name.endswith(".safetensors") for name in files)
wanted = [name for name in files if "/" not in name and name.endswith((".json", ".txt", ".safetensors" if safe else ".bin"))]
print(sum(files[name] for name in wanted), flush=True)
for name in wanted:
    hf_hub_download(repository, name, local_dir=folder)
"""


def download_captioner(known: KnownCaptioner, folder: Path, *, on_progress: OnProgress | None = None) -> Path:
    """The folder of `known` below `folder`, with all its files. It comes to its place only when it is whole.

    `on_progress` gets the bytes that are there and the bytes in all, and raises to cancel; the next download goes on from there.
    huggingface_hub heeds HF_ENDPOINT for mirrors and HF_TOKEN. Raises TaggerError that says which files to put where by hand.
    """
    target, unfinished = folder / known.name, folder / UNFINISHED / known.name
    try:
        fetch_in_child(_CHILD, (known.repository, str(unfinished)), unfinished, on_progress or (lambda _done, _all: None), _num_bytes)
        for leftover in (unfinished / ".cache", *unfinished.glob("*.log")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(unfinished.iterdir()):
            if (target / file.name).exists():
                file.unlink()
            else:
                file.replace(target / file.name)
        unfinished.rmdir()
    except TaggerError:
        raise
    except Exception as error:  # the library raises those of its HTTP client, of the system and its own
        reason = " ".join(str(error).split())[:300]
        raise TaggerError(
            f"{known.repository} could not be downloaded ({type(error).__name__}: {reason}). Try again, set HF_ENDPOINT to a mirror before ComfyUI"
            f" starts, or get the files in another way. {how_to_get(known, folder)}"
        ) from error
    if not any((folder / UNFINISHED).iterdir()):
        (folder / UNFINISHED).rmdir()
    return target


def _num_bytes(folder: Path) -> int:
    """Of everything that has arrived so far."""
    total = 0
    for path in folder.rglob("*"):
        try:
            is_one = path.suffix == ".incomplete" or (".cache" not in path.parts[len(folder.parts) :] and path.suffix != ".log")
            total += path.stat().st_size if is_one and path.is_file() else 0
        except OSError:
            continue  # renamed since it was listed
    return total
