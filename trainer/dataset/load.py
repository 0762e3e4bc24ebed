"""From a file that lists images to a Dataset: an sd-scripts dataset file, or captions in JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import AthanorError, raise_problems
from ..types import Dataset, Sample
from .captions import DEFAULT_EXTENSIONS, caption_extension
from .definition import Subset, is_definition, read_definition
from .found import Found, nothing_found, walk_folder
from .masks import MaskSource, images_and_notes
from .metadata import find_images, read_metadata
from .name_pattern import NamePattern
from .notes import listed, several
from .roles import counted_regularization, regularization_notes, without_copies_of_held_out
from .samples import CaptionSource, read_samples
from .scan import existing_folder, mask_notes
from .split import held_out

Allowed = Callable[[Path], bool]


def load_list(
    file: Path,
    folder: Path,
    *,
    is_allowed: Allowed,
    trigger: str = "",
    caption_extensions: tuple[str, ...] = DEFAULT_EXTENSIONS,
    validation_percent: float = 0.0,
    pattern: NamePattern | None = None,
    masks: MaskSource = None,
) -> Dataset:
    """The images that `file` lists: a dataset file of sd-scripts (.toml, or .json with "datasets"), or captions in .json or .jsonl.

    In a dataset file, folders are taken from where it lies, and what it says goes before the arguments here, which stand for
    sd-scripts' command line. Images of a list of captions lie below `folder`, and only those that it names are loaded.
    `is_allowed` tells of a real path, links resolved, whether it may be read; a list comes with a workflow, so no other
    place is even looked at.
    Raises AthanorError for a file that cannot be understood, or without any usable image, telling all problems at once.
    """
    extensions = tuple(dict.fromkeys(caption_extension(extension) for extension in caption_extensions))
    held_out((), validation_percent)
    captions = CaptionSource(extensions, pattern)
    if is_definition(file):
        return replace(
            _load_definition(file, replace(captions, otherwise=trigger.strip()), masks, validation_percent, is_allowed), trigger=trigger.strip()
        )
    if file.suffix.lower() not in (".json", ".jsonl"):
        raise AthanorError(f"{file.name} is no list of images; a .toml, .json or .jsonl file is needed.")
    root = existing_folder(folder)
    found, notes = find_images(read_metadata(file), root, file.name, is_allowed=is_allowed)
    samples, more = read_samples(found, replace(captions, extensions=()), masks)
    if not samples:
        raise AthanorError(f"{file.name} names no image that can be used in {root}. " + " ".join([*notes, *more][:5]))
    if unnamed := [name for name, sample in samples.items() if sample.caption is None]:
        notes.append(
            f'{file.name} has no caption for {several(len(unnamed), "image")}: {listed(unnamed)}. It is read from "caption" or "text", and from "tags".'
        )
    chosen = held_out(samples.keys(), validation_percent)
    return without_copies_of_held_out(
        Dataset(
            samples=tuple(replace(sample, role="validation") if name in chosen else sample for name, sample in samples.items()),
            trigger=trigger.strip(),
            notes=(*notes, *more, *mask_notes(samples.values())),
        )
    )


def places_of(file: Path) -> tuple[Path, ...]:
    """The folders and lists that a dataset file names, none for a list of captions. Raises as `load_list` does."""
    return read_definition(file).places if is_definition(file) else ()


def _load_definition(file: Path, captions: CaptionSource, masks: MaskSource, validation_percent: float, is_allowed: Allowed) -> Dataset:
    definition = read_definition(file)
    raise_problems(_place_problems(file, definition.subsets, is_allowed))
    subsets, notes = _without_repetition(definition.subsets)
    notes = [*definition.notes, *notes]
    train: list[Sample] = []
    regularization: list[Sample] = []
    unused: list[Sample] = []
    for group in dict.fromkeys(subset.group for subset in subsets):
        by_role: dict[bool, list[Sample]] = {False: [], True: []}
        for subset in subsets:
            if subset.group == group:
                samples, more = _read_subset(subset, captions, masks, validation_percent, is_allowed)
                by_role[subset.is_reg] += samples
                notes += more
        counted = counted_regularization(by_role[True], sum(sample.repeats for sample in by_role[False] if sample.role == "train"))
        train += by_role[False]
        regularization += counted
        unused += by_role[True][len(counted) :]
    if not train:
        what = "regularization images only (is_reg), and to none that is trained on" if regularization or unused else "no image that can be used"
        raise AthanorError(" ".join([f"{file.name} leads to {what}.", *notes[:5]]))
    samples = (*train, *regularization)
    return without_copies_of_held_out(Dataset(samples, notes=(*notes, *regularization_notes(regularization, unused), *mask_notes(samples))))


def _read_subset(
    subset: Subset, captions: CaptionSource, masks: MaskSource, validation_percent: float, is_allowed: Allowed
) -> tuple[list[Sample], list[str]]:
    found, notes = _find(subset, is_allowed)
    if not found:
        return [], notes
    folder = (subset.image_dir or found[0].path.parent).name
    named = [
        replace(
            each, name=f"{folder}/{each.name}", repeats=subset.num_repeats, class_tokens=subset.class_tokens, concept=subset.class_tokens or folder
        )
        for each in found
    ]
    extensions = () if subset.metadata_file else (subset.caption_extension,) if subset.caption_extension else captions.extensions
    source = replace(captions, extensions=extensions, prefix=subset.caption_prefix, suffix=subset.caption_suffix)
    source = replace(source, keep_lines=_keeps_lines(subset), otherwise="" if subset.is_reg else captions.otherwise)
    samples, more = read_samples(named, source, subset.mask_dir or ("alpha" if subset.alpha_mask else masks))
    percent = 0.0 if subset.is_reg else validation_percent if subset.validation_percent is None else subset.validation_percent
    chosen = held_out(samples.keys(), percent)
    carried = {name: replace(sample, captioning=subset.captioning, viewing=subset.viewing) for name, sample in samples.items()}
    return [replace(sample, role="validation") if name in chosen else sample for name, sample in carried.items()], [*notes, *more]


def _keeps_lines(subset: Subset) -> bool:
    return bool(subset.captioning and subset.captioning.wildcards)


def _find(subset: Subset, is_allowed: Allowed) -> tuple[list[Found], list[str]]:
    if subset.metadata_file:
        folder = (subset.image_dir or subset.metadata_file.parent).absolute()
        separator = (subset.captioning and subset.captioning.separator) or ","
        captions = read_metadata(subset.metadata_file, keep_lines=_keeps_lines(subset), separator=separator)
        return find_images(captions, folder, subset.metadata_file.name, is_allowed=is_allowed)
    assert subset.image_dir is not None, "read_definition refuses subsets with neither"
    is_beside = subset.mask_dir is not None and subset.mask_dir.resolve() == subset.image_dir.resolve()
    walk = walk_folder(subset.image_dir.absolute(), "none", [subset.mask_dir] if subset.mask_dir and not is_beside else ())
    walk.found, more = images_and_notes(walk.found, subset.image_dir, subset.mask_dir or ("alpha" if subset.alpha_mask else None))
    walk.notes += more
    return walk.found, walk.notes if walk.found else [f"{subset.where}: {nothing_found(walk)}"]


def _place_problems(file: Path, subsets: Sequence[Subset], is_allowed: Allowed) -> list[str]:
    problems = []
    for subset in subsets:
        for key, path in (("image_dir", subset.image_dir), ("conditioning_data_dir", subset.mask_dir), ("metadata_file", subset.metadata_file)):
            if path is None:
                continue
            where = f"{file.name}, {subset.where}: {key} {path}"
            try:
                may_be_read = is_allowed(path.resolve())
                is_there = may_be_read and (path.is_file() if key == "metadata_file" else path.is_dir())
            except (OSError, ValueError) as error:
                problems.append(f"{file.name}, {subset.where}: {key} cannot be a path ({_reason(error)}): {str(path)[:80]!r}.")
                continue
            if not may_be_read:
                problems.append(f"{where} does not lie in a registered dataset folder; copy it there, or register the folder around it.")
            elif not is_there:
                problems.append(f"{where} {'is a file, not a folder' if key != 'metadata_file' and path.exists() else 'does not exist'}.")
    return problems


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _without_repetition(subsets: Sequence[Subset]) -> tuple[list[Subset], list[str]]:
    """One of each folder: in a dataset file the same one stands several times to be trained in several sizes, which the Bucket node sets."""
    first: dict[tuple[Path | None, Path | None, bool], Subset] = {}
    notes = []
    for subset in subsets:
        key = (subset.image_dir and subset.image_dir.resolve(), subset.metadata_file and subset.metadata_file.resolve(), subset.is_reg)
        if key in first:
            notes.append(
                f"{subset.where} names the same folder as {first[key].where} and was left out; to train in several sizes, set them in the Bucket node."
            )
        first.setdefault(key, subset)
    return list(first.values()), notes
