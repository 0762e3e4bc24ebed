import logging
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from athanor.tagger.errors import TaggerError
from athanor.tagger.scores import ScoreCache, tag_images
from athanor.tagger.session import Tagger


@pytest.fixture
def grey_images(tmp_path: Path) -> list[Path]:
    """Eleven images; the brightness of each is 20 times its number."""
    files = [tmp_path / f"图 {i}.png" for i in range(11)]
    for i, file in enumerate(files):
        Image.new("RGB", (8, 8), (20 * i,) * 3).save(file)
    return files


@pytest.fixture
def tagger(make_tagger) -> Tagger:
    return Tagger(make_tagger([(0, 0, "red"), (7, 7, "blue")]))


def _numbers(scored) -> list[int | None]:
    return [None if one.scores is None else round(float(one.scores[0]) * 255 / 20) for one in scored]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
@pytest.mark.parametrize("num_threads", [1, 4])
def test_all_in_order_whatever_the_batch(tagger: Tagger, grey_images: list[Path], batch_size: int, num_threads: int) -> None:
    scored = list(tag_images(tagger, grey_images, batch_size=batch_size, num_threads=num_threads))
    assert [one.path for one in scored] == grey_images
    assert _numbers(scored) == list(range(11))
    assert scored[4].scores.shape == (2,) and scored[4].scores.dtype == np.float32


def test_batches_where_the_model_allows_it(tagger: Tagger, make_tagger, grey_images: list[Path], monkeypatch) -> None:
    sizes: list[int] = []
    real = Tagger._run
    monkeypatch.setattr(Tagger, "_run", lambda self, engine, pixels: sizes.append(len(pixels)) or real(self, engine, pixels))
    list(tag_images(tagger, grey_images, batch_size=4))
    assert sizes == [4, 4, 3]
    sizes.clear()
    single = Tagger(make_tagger([(0, 0, "red")], batch=1, name="single"))
    assert _numbers(tag_images(single, grey_images, batch_size=4)) == list(range(11))
    assert sizes == [1] * 11


def test_broken_images_are_reported_and_end_nothing(tagger: Tagger, grey_images: list[Path], tmp_path: Path) -> None:
    grey_images[0].write_bytes(b"no image")
    grey_images[5].write_bytes(grey_images[5].read_bytes()[:40])
    grey_images[10].unlink()
    for cache in (None, tmp_path / "cache"):
        scored = list(tag_images(tagger, grey_images, batch_size=3, cache_folder=cache))
        assert _numbers(scored) == [None, 1, 2, 3, 4, None, 6, 7, 8, 9, None]
        for number in (0, 5, 10):
            assert str(grey_images[number]) in scored[number].problem
        assert scored[1].problem == ""


def test_progress_counts_every_image(tagger: Tagger, grey_images: list[Path]) -> None:
    grey_images[3].write_bytes(b"")
    seen: list[tuple[int, int]] = []
    list(tag_images(tagger, grey_images, batch_size=4, on_progress=lambda done, of: seen.append((done, of))))
    assert seen == [(i, 11) for i in range(1, 12)]


def test_what_progress_raises_ends_the_run(tagger: Tagger, grey_images: list[Path]) -> None:
    def cancel(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(tag_images(tagger, grey_images, on_progress=cancel))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tagger")]


def test_memory_is_bounded(tagger: Tagger, grey_images: list[Path], monkeypatch) -> None:
    import athanor.tagger.scores as module

    started: list[Path] = []
    real = module.prepare_file
    monkeypatch.setattr(module, "prepare_file", lambda path, preprocessing: started.append(path) or real(path, preprocessing))
    running = tag_images(tagger, grey_images * 20, batch_size=2, num_threads=2)
    next(running)
    running.close()
    assert len(started) <= 10


def test_nothing_to_tag(tagger: Tagger) -> None:
    assert list(tag_images(tagger, [])) == [] and not tagger.is_open


def test_a_model_that_cannot_be_loaded_ends_the_run(tagger: Tagger, grey_images: list[Path], monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TaggerError, match="Tagging needs onnxruntime"):
        list(tag_images(tagger, grey_images))


def test_kept_scores_need_no_model(tagger: Tagger, grey_images: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = list(tag_images(tagger, grey_images, cache_folder=cache))
    again = Tagger(tagger.files.model.parent)
    second = list(tag_images(again, grey_images, cache_folder=cache))
    assert not again.is_open
    np.testing.assert_array_equal([one.scores for one in first], [one.scores for one in second])


def test_scores_follow_the_content_of_an_image(tagger: Tagger, grey_images: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    list(tag_images(tagger, grey_images, cache_folder=cache))
    renamed = tmp_path / "renamed.png"
    shutil.copy(grey_images[7], renamed)
    tagger.close()
    assert _numbers(tag_images(tagger, [renamed], cache_folder=cache)) == [7] and not tagger.is_open
    Image.new("RGB", (8, 8), (40,) * 3).resize((8, 8)).save(renamed)
    os.utime(renamed, ns=(1, 1))
    assert _numbers(tag_images(tagger, [renamed], cache_folder=cache)) == [2]


def test_another_model_does_not_get_them(tagger: Tagger, make_tagger, grey_images: list[Path], tmp_path: Path) -> None:
    list(tag_images(tagger, grey_images[:3], cache_folder=tmp_path / "cache"))
    doubled = Tagger(make_tagger([(0, 0, "red"), (0, 0, "red")], scale=2.0, name="doubled"))
    assert _numbers(tag_images(doubled, grey_images[:3], cache_folder=tmp_path / "cache")) == [0, 2, 4]


def test_a_broken_entry_is_scored_again(tagger: Tagger, grey_images: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    list(tag_images(tagger, grey_images[:3], cache_folder=cache))
    entries = sorted(cache.rglob("*.npy"))
    assert len(entries) == 3
    entries[0].write_bytes(entries[0].read_bytes()[:50])
    entries[1].write_bytes(b"")
    np.save(entries[2], np.zeros(5, np.float32))
    assert _numbers(tag_images(tagger, grey_images[:3], cache_folder=cache)) == [0, 1, 2]
    reader = ScoreCache(cache, tagger.fingerprint, 2)
    assert all(reader.read(entry.stem) is not None for entry in entries)


def test_a_cache_that_cannot_be_written_warns_once(tagger: Tagger, grey_images: list[Path], tmp_path: Path, caplog) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert _numbers(tag_images(tagger, grey_images, cache_folder=tmp_path / "file")) == list(range(11))
    assert len(caplog.records) == 1 and "cannot be kept" in caplog.text


def test_mixed_kept_fresh_and_broken_stay_in_order(tagger: Tagger, grey_images: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    list(tag_images(tagger, grey_images[::2], cache_folder=cache))
    grey_images[3].write_bytes(b"broken")
    assert _numbers(tag_images(tagger, grey_images, batch_size=2, cache_folder=cache)) == [0, 1, 2, None, 4, 5, 6, 7, 8, 9, 10]
