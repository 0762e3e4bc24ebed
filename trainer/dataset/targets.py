"""Where samples go when they are saved: a file name for each, and whose files stand there already."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import AthanorError
from ..files import replace_atomically
from ..types import Sample
from .header import UnusableImageError, read_header
from .notes import ending, listed, several

Pictures = Literal["none", "whole", "as trained"]
PICTURES: tuple[Pictures, ...] = ("none", "whole", "as trained")

_LIST_FILE = ".athanor-saved.json"
_READ_BY_ALL = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the pictures that every trainer takes, sd-scripts among them."""


@dataclass(frozen=True)
class Target:
    """Where one sample goes; a picture that has to be changed becomes a PNG."""

    sample: Sample
    image: Path
    """Its picture; the caption stands beside it under the same name."""

    @property
    def stem(self) -> str:
        return _stem(self.image)


def find_targets(samples: Sequence[Sample], folder: Path | None, pictures: Pictures) -> tuple[list[Target], list[str]]:
    """One for each file that is to be written, and notes on samples whose caption finds no place of its own."""
    if folder is None:
        wanted = [Target(sample, Path(sample.path)) for sample in samples]
    else:
        wanted = [Target(sample, folder / name) for sample, name in zip(samples, _names_below(samples), strict=True)]
        if pictures == "as trained":
            wanted = _numbered(wanted)
        elif pictures == "whole":
            wanted = [Target(each.sample, each.image.with_name(f"{_stem(each.image)}.png")) if is_changed(each.sample) else each for each in wanted]
    taken: dict[str, Target] = {}
    lost: list[str] = []
    for target in wanted:
        key = _key(target.image)
        known = taken.get(key)
        if known is not None and folder is None and known.stem != target.stem and _tells_case(target.image):
            key = f"exactly {target.image.with_name(target.stem)}"
            known = taken.get(key)
        if known is not None and folder is not None and known.sample.path != target.sample.path:
            target = Target(target.sample, _free_name(target, taken))
            key = _key(target.image)
        elif known is not None:
            lost += [Path(target.sample.path).name] if known.sample.caption != target.sample.caption else []
            continue
        taken[key] = target
    notes = []
    if lost:
        notes.append(
            f"{several(len(lost), 'caption')} not saved, since another image of the same name has the file: {listed(lost)}. Save to a new folder, or rename."
        )
    return list(taken.values()), notes


def _free_name(target: Target, taken: dict[str, Target]) -> Path:
    """Beside an image of the same name its own ending tells it apart, else a number."""
    stem = f"{_stem(target.image)}_{ending(Path(target.sample.path).name)[1:]}"
    number = 1
    while _key(image := target.image.with_name(f"{stem}{'' if number == 1 else f'_{number}'}{ending(target.image.name)}")) in taken:
        number += 1
    return image


def _key(image: Path) -> str:
    """Of its caption file, as Windows and macOS see it."""
    return unicodedata.normalize("NFC", str(image.with_name(_stem(image)))).casefold()


def _tells_case(image: Path) -> bool:
    """Whether large and small letters make two names where `image` lies."""
    other = image.with_name(image.name.swapcase())
    try:
        return not other.samefile(image)
    except OSError:
        return True


def _stem(image: Path) -> str:
    return image.name[: len(image.name) - len(ending(image.name))]


def _names_below(samples: Sequence[Sample]) -> list[Path]:
    """Of each sample below the folder that holds them all. Those on several drives keep the drive's letter."""
    parents = [Path(sample.path).parent for sample in samples]
    try:
        root = Path(os.path.commonpath(parents))
    except ValueError:
        root = None
    names = []
    for sample in samples:
        path = Path(sample.path)
        name = path.relative_to(root) if root else Path(path.drive.strip(":\\/") or "root", *path.parts[1:])
        if sample.repeats != 1 and not any(part.startswith(f"{sample.repeats}_") for part in name.parts[:-1]):
            concept = "".join(letter for letter in sample.concept if letter not in '<>:"/\\|?*').strip(" .") or "images"
            name = Path(f"{sample.repeats}_{concept}") / name
        names.append(name)
    return names


def _numbered(targets: Sequence[Target]) -> list[Target]:
    """Parts of one picture are counted, mirrored ones called so, and all are PNG."""
    times: dict[tuple[str, bool], int] = {}
    for target in targets:
        key = (target.sample.path, _is_mirrored(target.sample))
        times[key] = times.get(key, 0) + 1
    seen: dict[tuple[str, bool], int] = {}
    result = []
    for target in targets:
        key = (target.sample.path, _is_mirrored(target.sample))
        seen[key] = seen.get(key, 0) + 1
        stem = _stem(target.image)
        stem += f"-{seen[key]}" if times[key] > 1 else ""
        stem += "-mirrored" if key[1] else ""
        result.append(Target(target.sample, target.image.with_name(f"{stem}.png")))
    return result


def _is_mirrored(sample: Sample) -> bool:
    return sample.placement is not None and sample.placement.mirrored


def check_free(targets: Sequence[Target], folder: Path, own: Collection[str]) -> None:
    """Raises AthanorError if an original, or a file that is not one of `own`, stands where a picture is to go."""
    sources = {Path(path).resolve() for target in targets for path in (target.sample.path, target.sample.mask) if path and path != "alpha"}
    taken = [target.image for target in targets if target.image.resolve() in sources]
    if taken:
        raise AthanorError(f"Pictures are not saved over the originals, such as {taken[0]}. Choose another folder than {folder}.")
    taken = [target.image for target in targets if target.image.relative_to(folder).as_posix() not in own and target.image.exists()]
    if taken:
        names = listed([path.relative_to(folder).as_posix() for path in taken])
        raise AthanorError(f"{folder} holds other pictures already: {names}. They are not replaced; choose another folder.")


def own_files(folder: Path) -> set[str]:
    """What was saved there before, which may be replaced."""
    try:
        return set(json.loads((folder / _LIST_FILE).read_text(encoding="utf-8", errors="surrogatepass")))
    except (OSError, ValueError, TypeError):
        return set()


def remember_own(folder: Path, names: set[str]) -> None:
    text = json.dumps(sorted(names), ensure_ascii=False, indent=0)
    replace_atomically(folder / _LIST_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="surrogatepass") and None)


def is_changed(sample: Sample) -> bool:
    """Whether the file has to be rewritten to show in every program what is trained on."""
    try:
        header = read_header(Path(sample.path), check_png_content=False)
    except (UnusableImageError, OSError) as problem:
        raise AthanorError(f"{sample.path} {problem}") from None
    is_flattened = header.has_alpha and sample.mask != "alpha"
    is_rare = ending(Path(sample.path).name) not in _READ_BY_ALL
    return is_rare or header.is_turned or header.is_cmyk or header.is_deep or header.has_profile or is_flattened
