"""What the loop draws from: the images of one epoch in batches of one bucket each.

As in sd-scripts, each bucket is cut into batches and its last one may be short; images and batches are shuffled anew
each epoch, from the seed and the epoch's number alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..seeds import generator
from ..types import Sample


def batches_per_epoch(samples: Sequence[Sample], batch_size: int) -> int:
    return sum(-(-len(indices) // batch_size) for indices in _by_bucket(samples).values())


def largest_batch(samples: Sequence[Sample], batch_size: int) -> tuple[tuple[int, int], int]:
    """Bucket in px and number of images of the batch with the most pixels."""
    buckets = _by_bucket(samples)
    size = max(buckets, key=lambda px: px[0] * px[1] * min(batch_size, len(buckets[px])))
    return size, min(batch_size, len(buckets[size]))


def num_batch_shapes(samples: Sequence[Sample], batch_size: int) -> int:
    """How many sizes of tensors the batches have: a bucket's last one may hold fewer images."""
    counts = [len(indices) for indices in _by_bucket(samples).values()]
    return sum((count >= batch_size) + (count % batch_size > 0) for count in counts)


def commonest_bucket(samples: Sequence[Sample]) -> tuple[int, int]:
    """In px: that of most images."""
    sizes = Counter(sample.placement.bucket_px for sample in samples if sample.placement)
    return max(sizes, key=lambda size: (sizes[size], size))


def epoch_batches(samples: Sequence[Sample], batch_size: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """Indices into `samples`, every image as often as it repeats."""
    import torch

    draw = generator(seed, "order", epoch)
    batches = []
    for indices in _by_bucket(samples).values():
        shuffled = [indices[i] for i in torch.randperm(len(indices), generator=draw).tolist()]
        batches += [tuple(shuffled[i : i + batch_size]) for i in range(0, len(shuffled), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=draw).tolist()]


def _by_bucket(samples: Sequence[Sample]) -> dict[tuple[int, int], list[int]]:
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, sample in enumerate(samples):
        assert sample.placement is not None, "validated before: every sample has its bucket"
        buckets.setdefault(sample.placement.bucket_px, []).extend([index] * sample.repeats)
    return dict(sorted(buckets.items()))
