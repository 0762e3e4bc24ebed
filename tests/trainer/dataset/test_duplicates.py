import random
import sqlite3
import threading
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageEnhance

from athanor.trainer.dataset import duplicate_notes, near_duplicates, scan_folder
from athanor.trainer.dataset import duplicates as module
from athanor.trainer.dataset.looks import HASH_BYTES, THUMBNAIL_BYTES, LooksCache, look_key
from athanor.trainer.types import Dataset, Sample


def scene(seed, size=(320, 240)):
    """Soft shapes in colour, with detail like a photograph's."""
    draw = random.Random(seed)
    small = Image.new("RGB", (6, 5))
    small.putdata([tuple(draw.randrange(256) for _ in range(3)) for _ in range(30)])
    return small.resize(size, Image.Resampling.BICUBIC)


def names(groups):
    return [[Path(sample.path).name for sample in group] for group in groups]


@pytest.fixture
def folder(tmp_path):
    """A picture in five forms, one of which is no duplicate any more, and others."""
    first = scene(1)
    first.save(tmp_path / "1 original.png")
    first.save(tmp_path / "2 again.jpg", quality=60)
    first.resize((128, 96)).save(tmp_path / "3 smaller.webp")
    ImageEnhance.Brightness(first).enhance(1.03).save(tmp_path / "4 brighter.png")
    first.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "5 mirrored.png")
    first.resize((240, 320)).save(tmp_path / "6 squeezed.png")
    for seed in range(10, 22):
        scene(seed).save(tmp_path / f"{seed}.png")
    return tmp_path


def test_the_same_picture_in_other_forms_is_one_group(folder):
    dataset = scan_folder(folder)
    groups = near_duplicates(dataset)
    assert names(groups) == [["1 original.png", "2 again.jpg", "3 smaller.webp", "4 brighter.png"]]
    assert groups[0][0] is dataset.samples[0]
    assert duplicate_notes(groups) == [
        "1 original.png and 2 again.jpg and 3 smaller.webp and 4 brighter.png look alike; keep one of them unless the differences are wanted."
    ]


def test_plain_pictures_are_told_apart_by_their_thumbnails(tmp_path):
    for name, colour in (("a", "white"), ("b", "black"), ("c", (250, 252, 255)), ("d", "red"), ("e", (0, 76, 0))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    assert names(near_duplicates(scan_folder(tmp_path))) == [["a.png", "c.png"]]


def test_what_was_seen_is_not_decoded_again(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache 图"
    dataset = scan_folder(folder)
    first = near_duplicates(dataset, cache_folder=cache)
    opened = []
    real = module.open_image
    monkeypatch.setattr(module, "open_image", lambda path, **options: opened.append(path.name) or real(path, **options))
    assert near_duplicates(dataset, cache_folder=cache) == first and opened == []
    scene(99).save(folder / "3 smaller.webp")
    assert names(near_duplicates(scan_folder(folder), cache_folder=cache)) == [["1 original.png", "2 again.jpg", "4 brighter.png"]]
    assert opened == ["3 smaller.webp"]


def test_a_damaged_or_locked_cache_does_no_harm(folder, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    file = cache / "looks.sqlite"
    file.write_bytes(b"this is no database" * 100)
    dataset = scan_folder(folder)
    expected = near_duplicates(dataset)
    assert near_duplicates(dataset, cache_folder=cache) == expected
    with LooksCache(cache) as looks:
        assert len(looks.get([look_key(sample) for sample in dataset.samples])) == len(dataset.samples)
    with sqlite3.connect(file) as other:
        other.execute("DROP TABLE looks")
    other.close()
    assert near_duplicates(dataset, cache_folder=cache) == expected
    (tmp_path / "file").touch()
    assert near_duplicates(dataset, cache_folder=tmp_path / "file") == expected


def test_an_image_that_is_gone_is_in_no_group(folder):
    dataset = scan_folder(folder)
    (folder / "2 again.jpg").write_bytes(b"broken")
    (folder / "3 smaller.webp").unlink()
    assert names(near_duplicates(dataset)) == [["1 original.png", "4 brighter.png"]]
    assert near_duplicates(Dataset(())) == () == near_duplicates(Dataset(dataset.samples[:1]))


def test_progress_is_told_and_may_end_the_work(folder):
    told = []
    dataset = scan_folder(folder)
    near_duplicates(dataset, on_progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 18) and told[-1] == (18, 18)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        near_duplicates(dataset, on_progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("athanor-look")]


def looks_of(hashes, thumbnails, monkeypatch):
    """Samples whose looks are given, not decoded."""
    samples = tuple(Sample(f"/{i}", 64, 64, "1") for i in range(len(hashes)))
    looks = {sample: bytes(code) + bytes(thumbnail) for sample, code, thumbnail in zip(samples, hashes, thumbnails, strict=True)}
    monkeypatch.setattr(module, "_looks", lambda *_: (list(samples), list(looks.values())))
    return Dataset(samples)


def all_pairs(hashes, thumbnails):
    """The groups by comparing everything with everything."""
    groups = list(range(len(hashes)))
    for i in range(len(hashes)):
        for j in range(i):
            distance = sum(bin(a ^ b).count("1") for a, b in zip(hashes[i].tolist(), hashes[j].tolist(), strict=True))
            if distance <= 7 and numpy.abs(thumbnails[i].astype(int) - thumbnails[j]).mean() < 0.03 * 255:
                groups = [groups[j] if group == groups[i] else group for group in groups]
    return {frozenset(i for i in range(len(groups)) if groups[i] == group) for group in groups if groups.count(group) > 1}


@pytest.mark.parametrize("seed", range(3))
def test_the_groups_are_those_of_comparing_all_pairs(seed, monkeypatch):
    draw = numpy.random.default_rng(seed)
    hashes = draw.integers(0, 256, (12, HASH_BYTES), numpy.uint8)[draw.integers(0, 12, 120)]
    for code in hashes:
        for bit in draw.integers(0, 64, draw.integers(0, 8)):
            code[bit // 8] ^= 1 << (bit % 8)
    thumbnails = numpy.clip(draw.integers(0, 4, (120, 1)) * 9 + draw.integers(0, 8, (120, THUMBNAIL_BYTES)), 0, 255).astype(numpy.uint8)
    monkeypatch.setattr(module, "_NUM_ROWS_AT_ONCE", 7)
    groups = near_duplicates(looks_of(hashes, thumbnails, monkeypatch))
    found = {frozenset(int(sample.path[1:]) for sample in group) for group in groups}
    assert found == all_pairs(hashes, thumbnails) and found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["photographs", "plain"])
def test_twenty_thousand_images_are_compared_in_seconds(kind, monkeypatch):
    draw = numpy.random.default_rng(5)
    number = 20_000
    hashes = draw.integers(0, 256 if kind == "photographs" else 1, (number, HASH_BYTES), numpy.uint8)
    hashes[:, 0] = 0  # a clear sky in every one
    thumbnails = numpy.repeat(draw.integers(0, 256, (number, 1, 3), numpy.uint8), THUMBNAIL_BYTES // 3, axis=1).reshape(number, -1)
    hashes[number - 50 :], thumbnails[number - 50 :] = hashes[:50], thumbnails[:50]
    dataset = looks_of(hashes, thumbnails, monkeypatch)
    started = time.process_time()
    groups = near_duplicates(dataset)
    assert time.process_time() - started < 60
    found = {sample.path for group in groups for sample in group}
    assert all(f"/{i}" in found and f"/{number - 50 + i}" in found for i in range(50))


def test_bits_are_counted_alike_by_old_and_new_numpy(monkeypatch):
    numbers = numpy.array([0, 1, 255, 2**64 - 1, 0x8000000000000001, 0x0123456789ABCDEF], numpy.uint64)
    expected = [bin(number).count("1") for number in numbers.tolist()]
    assert module._num_bits(numbers).tolist() == expected
    monkeypatch.delattr(numpy, "bitwise_count", raising=False)
    assert module._num_bits(numbers).tolist() == expected
