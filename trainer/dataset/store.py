"""Pictures that come from a graph, kept as files so that a training can read them as long as it runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..errors import AthanorError
from ..files import replace_atomically
from ..types import Dataset, Sample
from .roles import without_copies_of_held_out
from .split import held_out

_PNG_LEVEL = 4


def store_images(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    root: Path,
    *,
    trigger: str = "",
    repeats: int = 1,
    validation_percent: float = 0.0,
) -> Dataset:
    """A dataset of `images` (L, RGB or RGBA), written as PNG into a folder of `root` that is named by their content.

    The same images make no new files and, whenever they were written, the same dataset. `captions`: one for each image, one
    for all, one text with as many lines as there are images, or none. Which ones are held out follows from the content, see
    `held_out`.
    Raises AthanorError for no images, another number of captions, repeats under 1, or a folder that cannot be written.
    """
    if not images:
        raise AthanorError("There are no images to make a dataset of; connect an IMAGE.")
    if repeats < 1:
        raise AthanorError(f"The images repeat {repeats} times an epoch; it must be 1 or more.")
    texts = _for_each(captions, len(images))
    digests = [hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest() for image in images]
    folder = root / hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    names = _names(digests)
    chosen = held_out(names, validation_percent)
    samples = []
    for number, (image, caption, digest, name) in enumerate(zip(images, texts, digests, names, strict=True), 1):
        path = folder / f"{number:05d}.png"
        if not path.exists():
            _write(image, path)
        samples.append(
            Sample(
                path=str(path.absolute()),
                width_px=image.width,
                height_px=image.height,
                fingerprint=digest,
                caption=caption,
                repeats=repeats,
                concept=trigger.strip(),
                role="validation" if name in chosen else "train",
            )
        )
    return without_copies_of_held_out(Dataset(tuple(samples), trigger.strip()))


def _write(image: Image.Image, path: Path) -> None:
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG", compress_level=_PNG_LEVEL))


def _for_each(captions: Sequence[str], number: int) -> list[str | None]:
    texts = list(captions)
    if len(texts) == 1 and number > 1:
        lines = [line for line in texts[0].splitlines() if line.strip()]
        texts = lines if len(lines) == number else texts * number
    if texts and len(texts) != number:
        raise AthanorError(f"There are {number} images and {len(texts)} captions; connect one caption for each image, one for all, or none.")
    return [" ".join(text.split()) for text in texts] if texts else [None] * number


def _names(digests: Sequence[str]) -> list[str]:
    """One for each image, equal ones counted."""
    seen: Counter[str] = Counter()
    names = []
    for digest in digests:
        seen[digest] += 1
        names.append(f"{digest}-{seen[digest]}")
    return names
