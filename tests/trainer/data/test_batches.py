from __future__ import annotations

from collections import Counter

from athanor.trainer.data.batches import batches_per_epoch, epoch_batches, num_batch_shapes
from athanor.trainer.types import Placement, Sample


def sample(name: str, bucket: tuple[int, int], repeats: int) -> Sample:
    return Sample(name, *bucket, "0-0", repeats=repeats, placement=Placement(bucket, bucket, (0, 0)))


SAMPLES = (sample("a", (64, 64), 3), sample("b", (64, 64), 2), sample("c", (64, 128), 1), sample("d", (64, 64), 1))


def test_every_image_is_seen_as_often_as_it_repeats_and_a_batch_has_one_size():
    batches = epoch_batches(SAMPLES, 2, seed=1, epoch=1)
    assert Counter(i for batch in batches for i in batch) == {0: 3, 1: 2, 2: 1, 3: 1}
    assert all(len({SAMPLES[i].placement for i in batch}) == 1 for batch in batches)
    assert sorted(map(len, batches)) == [1, 2, 2, 2]
    assert batches_per_epoch(SAMPLES, 2) == len(batches) == 4


def test_the_order_changes_with_the_epoch_and_the_seed_but_not_by_itself():
    orders = {(seed, epoch): tuple(epoch_batches(SAMPLES, 1, seed, epoch)) for seed in (1, 2) for epoch in (1, 2, 3)}
    assert len(set(orders.values())) == 6
    assert tuple(epoch_batches(SAMPLES, 1, 1, 2)) == orders[1, 2]


def test_a_short_last_batch_is_a_size_of_its_own():
    assert [num_batch_shapes(SAMPLES, size) for size in (1, 2, 4, 6, 7)] == [2, 2, 3, 2, 2]
    assert all(
        num_batch_shapes(SAMPLES, size) == len({(SAMPLES[b[0]].placement, len(b)) for b in epoch_batches(SAMPLES, size, 1, 1)})
        for size in (1, 2, 4, 5)
    )
