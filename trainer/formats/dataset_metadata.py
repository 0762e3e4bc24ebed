"""What a file tells of the pictures that it was trained on, under the names of sd-scripts.

Each table keeps within so many bytes of the header, however many pictures, folders and tags there are: the whole header
stays under the megabyte that ComfyUI and A1111 read, of which a LoRA of SDXL needs more than half for its names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..config import TrainJob
from ..settings import DataSettings
from ..types import Sample

_MAX_TAGS = 2000
_TAG_BYTES, _DATASET_TAG_BYTES, _FOLDER_BYTES, _SUBSET_BYTES, _BUCKET_BYTES = 120_000, 60_000, 30_000, 50_000, 20_000
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Folder:
    """The pictures of one folder that are repeated alike: what sd-scripts calls a subset."""

    name: str
    """Its own, with a number behind it where several are called so."""
    repeats: int
    samples: tuple[Sample, ...]

    @property
    def facts(self) -> dict[str, int]:
        return {"n_repeats": self.repeats, "img_count": len(self.samples)}


def dataset_metadata(job: TrainJob) -> dict[str, object]:
    """JSON where sd-scripts has it; `ss_datasets` tells the same as the single keys, as runs from a dataset file have it."""
    samples, regularization, held_out = (job.dataset.with_role(role) for role in ("train", "regularization", "validation"))
    trained = job.dataset.trained
    folders, other_folders = _folders(samples), _folders(regularization)
    tags = _tag_counts(folders)
    sides = [side for sample in trained if sample.placement for side in sample.placement.bucket_px]
    of_all = {
        "batch_size_per_device": job.train.batch_size,
        "num_train_images": sum(sample.repeats for sample in samples),
        "num_reg_images": sum(sample.repeats for sample in regularization),
        "resolution": list(common_size_px(samples)),
        "enable_bucket": True,
        "min_bucket_reso": min(sides),
        "max_bucket_reso": max(sides),
        "tag_frequency": _tag_frequency(tags, _DATASET_TAG_BYTES),
        "bucket_info": _bucket_info(trained),
        "resize_interpolation": _resize(job.data),
    }
    subsets = {each.name: _subset(job, each, is_reg=False) for each in folders} | {
        f"{each.name}/": _subset(job, each, is_reg=True) for each in other_folders
    }
    datasets = [{"is_dreambooth": True, **of_all, "subsets": list(_fitting(subsets, _SUBSET_BYTES).values())}]
    return {
        "ss_num_train_images": of_all["num_train_images"],
        "ss_num_reg_images": of_all["num_reg_images"],
        "ss_num_validation_images": len(held_out),
        "ss_resolution": "{},{}".format(*common_size_px(samples)),
        "ss_enable_bucket": True,
        "ss_bucket_no_upscale": not any(_is_enlarged(sample) for sample in trained),
        "ss_min_bucket_reso": of_all["min_bucket_reso"],
        "ss_max_bucket_reso": of_all["max_bucket_reso"],
        "ss_resize_interpolation": of_all["resize_interpolation"],
        "ss_bucket_info": _json(of_all["bucket_info"]),
        "ss_dataset_dirs": _json(_fitting({each.name: each.facts for each in folders}, _FOLDER_BYTES)),
        "ss_reg_dataset_dirs": _json(_fitting({each.name: each.facts for each in other_folders}, _FOLDER_BYTES)),
        "ss_tag_frequency": _json(_tag_frequency(tags, _TAG_BYTES)),
        "ss_datasets": _json(datasets),
        "ss_validation_split": round(len(held_out) / (len(held_out) + len(samples)), 4),
    }


def common_size_px(samples: Sequence[Sample]) -> tuple[int, int]:
    """Width and height of the bucket that most images are in."""
    sizes = Counter(sample.placement.bucket_px for sample in samples if sample.placement)
    return max(sizes, key=lambda size: (sizes[size], size))


def _resize(data: DataSettings) -> str | None:
    return None if data.resize == "auto" else data.resize


def _subset(job: TrainJob, folder: _Folder, is_reg: bool) -> dict[str, object]:
    first = folder.samples[0]
    data = first.viewing.applied_to(job.data) if first.viewing else job.data
    captions = first.captioning.applied_to(job.captions) if first.captioning else job.captions
    return {
        "img_count": len(folder.samples),
        "num_repeats": folder.repeats,
        "color_aug": data.colors,
        "flip_aug": data.mirror,
        "random_crop": data.random_crop,
        "shuffle_caption": captions.shuffle,
        "keep_tokens": captions.keep_tokens,
        "keep_tokens_separator": captions.keep_tokens_separator or None,
        "secondary_separator": captions.secondary_separator or None,
        "enable_wildcard": captions.wildcards,
        "caption_prefix": None,
        "caption_suffix": None,
        "resize_interpolation": _resize(data),
        "image_dir": Path(first.path).parent.name,
        "class_tokens": first.class_tokens or None,
        "is_reg": is_reg,
    }


def _folders(samples: Sequence[Sample]) -> list[_Folder]:
    """In the order of their first pictures. A picture that is trained in several sizes counts for each, as in sd-scripts."""
    sorted_out: dict[tuple[Path, int], list[Sample]] = {}
    for sample in samples:
        sorted_out.setdefault((Path(sample.path).parent, sample.repeats), []).append(sample)
    seen: Counter[str] = Counter()
    folders = []
    for (folder, repeats), held in sorted_out.items():
        seen[folder.name] += 1
        number = seen[folder.name]
        folders.append(_Folder(folder.name if number == 1 else f"{folder.name} ({number})", repeats, tuple(held)))
    return folders


def _is_enlarged(sample: Sample) -> bool:
    placed = sample.placement
    return placed is not None and (placed.resized_px[0] > sample.width_px or placed.resized_px[1] > sample.height_px)


def _bucket_info(samples: Sequence[Sample]) -> dict[str, object]:
    """Of more buckets than there is room for, those with the most pictures."""
    counts: Counter[tuple[int, int]] = Counter()
    errors = []
    for sample in samples:
        if sample.placement:
            width, height = sample.placement.bucket_px
            counts[(width, height)] += sample.repeats
            errors.append(abs(width / height - sample.width_px / sample.height_px))
    kept = _fitting({size: {"resolution": list(size), "count": count} for size, count in counts.most_common()}, _BUCKET_BYTES)
    buckets = {str(i): kept[size] for i, size in enumerate(sorted(kept))}
    return {"buckets": buckets, "mean_img_ar_error": sum(errors) / len(errors)}


def _tag_counts(folders: Sequence[_Folder]) -> dict[str, list[tuple[str, int]]]:
    """The commonest tags of each folder first."""
    return {each.name: Counter(tag for sample in each.samples for tag in sample.tags).most_common(_MAX_TAGS) for each in folders}


def _tag_frequency(counts: Mapping[str, Sequence[tuple[str, int]]], room_bytes: int) -> dict[str, dict[str, int]]:
    """Of many folders as few tags a folder as fit."""
    sizes = {folder: [_size_bytes({tag: count}) for tag, count in held] for folder, held in counts.items()}
    most = _MAX_TAGS
    while most > 1 and sum(sum(held[:most]) for held in sizes.values()) > room_bytes:
        most //= 2
    return _fitting({folder: dict(held[:most]) for folder, held in counts.items()}, room_bytes)


def _fitting(table: Mapping[object, Value], room_bytes: int) -> dict:
    """The first entries that fit."""
    kept: dict = {}
    size = 0
    for key, value in table.items():
        size += _size_bytes({str(key): value})
        if size > room_bytes:
            break
        kept[key] = value
    return kept


def _size_bytes(value: object) -> int:
    """In the header, where JSON is a text within JSON."""
    return len(json.dumps(_json(value), ensure_ascii=False).encode("utf-8"))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
