"""The cache of latents and text encodings: whole after a kill, shared by runs at the same time, never with a NaN, never too large."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import athanor.trainer.data.cache as cache_module
from athanor.trainer.cli import main
from athanor.trainer.data.cache import TensorCache, cache_key
from athanor.trainer.data.cache_folder import clean_folder, folder_report, is_whole, mark_used, set_size_limit, shards_of, size_limit_bytes
from athanor.trainer.errors import AthanorError


def entry(number: float) -> dict[str, torch.Tensor]:
    return {"mean": torch.full((4, 8, 8), number), "std": torch.full((4, 8, 8), number + 0.5)}


def filled(folder: Path | None, numbers: range, group: str = "latents-64x64") -> TensorCache:
    cache = TensorCache(folder)
    for number in numbers:
        cache.put(str(number), entry(number), "x", group)
    cache.settle()
    return cache


def holds(cache: TensorCache, numbers: range) -> bool:
    return all(str(number) in cache and torch.equal(cache[str(number)]["std"], entry(number)["std"]) for number in numbers)


def make_old(shard: Path, age_sec: float) -> None:
    then = time.time() - age_sec
    os.utime(shard, (then, then))


def test_entries_of_a_bucket_share_one_file_and_come_back(tmp_path):
    filled(tmp_path, range(20))
    assert [shard.name.rpartition("-")[0] for shard in shards_of(tmp_path)] == ["latents-64x64"]
    assert holds(TensorCache(tmp_path), range(20)) and "20" not in TensorCache(tmp_path)


def test_small_files_of_one_phase_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_PENDING_BYTES", 3000)
    cache = TensorCache(tmp_path)
    for number in range(9):
        cache.put(str(number), entry(number), "x", "latents-64x64")
    assert len(shards_of(tmp_path)) > 3
    assert holds(TensorCache(tmp_path), range(6)), "another run sees what is written already"
    cache.settle()
    assert len(shards_of(tmp_path)) == 1
    assert holds(cache, range(9)) and holds(TensorCache(tmp_path), range(9))


def test_a_later_run_adds_its_own_and_an_earlier_one_finds_them(tmp_path):
    first = filled(tmp_path, range(3))
    second = filled(tmp_path, range(3, 6))
    assert len(shards_of(tmp_path)) == 2 and holds(second, range(6))
    assert torch.equal(first["4"]["mean"], entry(4)["mean"])


def test_what_another_run_joined_meanwhile_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_PENDING_BYTES", 3000)
    writer = TensorCache(tmp_path)
    for number in range(9):
        writer.put(str(number), entry(number), "x", "a")
    reader = TensorCache(tmp_path)
    writer.settle()
    assert torch.equal(reader["2"]["mean"], entry(2)["mean"])


def test_the_same_entries_from_two_runs_are_one_file(tmp_path):
    one, two = TensorCache(tmp_path), TensorCache(tmp_path)
    for cache in (one, two):
        cache.put("a", entry(1), "x", "text")
    one.settle()
    two.settle()
    assert len(shards_of(tmp_path)) == 1 and torch.equal(two["a"]["mean"], entry(1)["mean"])


KILLED = """
import sys
from pathlib import Path
import torch
import athanor.trainer.data.cache as cache_module
cache_module._PENDING_BYTES = 20_000
cache = cache_module.TensorCache(Path(sys.argv[1]))
number = 0
while True:
    cache.put(str(number), {"mean": torch.full((4, 8, 8), float(number)), "std": torch.full((4, 8, 8), number + 0.5)}, "x", "latents-64x64")
    number += 1
    if number == 60:
        print("going", flush=True)
"""


def test_a_killed_process_leaves_whole_files_only(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "going\n"
    process.kill()
    process.wait()
    process.stdout.close()
    cache = TensorCache(tmp_path)
    assert all(is_whole(shard) for shard in shards_of(tmp_path))
    assert holds(cache, range(40)), "all but the last few were on disk"


@pytest.mark.parametrize("damage", ["short", "empty", "garbage"])
def test_a_damaged_file_is_as_if_it_was_not_there(tmp_path, damage):
    filled(tmp_path, range(3))
    (shard,) = shards_of(tmp_path)
    content = shard.read_bytes()
    shard.write_bytes({"short": content[:-10], "empty": b"", "garbage": b"\xff" * 100}[damage])
    assert "1" not in TensorCache(tmp_path) and not shards_of(tmp_path)
    assert holds(filled(tmp_path, range(3)), range(3))


@pytest.mark.parametrize("header", [b"[]", b"3", b'{"a": 1}', b'{"a": {"data_offsets": 4}}', b'{"a": {"data_offsets": [0, 0]}}'])
def test_a_file_whose_header_is_none_is_as_if_it_was_not_there(tmp_path, header):
    (tmp_path / "text-1.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "1" not in TensorCache(tmp_path) and holds(filled(tmp_path, range(2)), range(2))


def test_a_disk_too_full_to_join_small_files_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_PENDING_BYTES", 3000)
    cache = TensorCache(tmp_path)
    for number in range(9):
        cache.put(str(number), entry(number), "x", "latents-64x64")
    cache.put("more", entry(9), "x", "text")
    cache.remembered("a", lambda: "b")
    cache._flush()

    def full(path: Path, write) -> None:
        raise AthanorError(f"Cannot write {path}: No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "replace_atomically", full)
        cache.settle()
        assert holds(cache, range(9)) and holds(TensorCache(tmp_path), range(9))
        with pytest.raises(AthanorError, match="No space left"):
            cache.put("unwritten", {"mean": torch.ones(4000)}, "x", "text")
    assert torch.equal(cache["unwritten"]["mean"], torch.ones(4000)), "what could not be written is still there"
    cache.settle()
    assert "unwritten" in TensorCache(tmp_path)


def test_a_file_that_goes_while_it_is_opened_is_looked_for_elsewhere(tmp_path, monkeypatch):
    filled(tmp_path, range(3))
    cache = TensorCache(tmp_path)
    (shard,) = shards_of(tmp_path)
    opened = cache._opened

    def gone(path: Path):
        if shard.is_file():
            shard.rename(shard.with_name("latents-64x64-joined.safetensors"))
        return opened(path)

    monkeypatch.setattr(cache, "_opened", gone)
    assert torch.equal(cache["1"]["mean"], entry(1)["mean"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_never_gets_in_and_is_named(tmp_path, bad):
    cache = TensorCache(tmp_path)
    with pytest.raises(AthanorError, match=r"The latents of 图片.png came out as not-a-number\. Choose precision fp32"):
        cache.put("a", {"mean": torch.tensor([1.0, bad])}, "The latents of 图片.png")
    cache.settle()
    assert "a" not in cache and not shards_of(tmp_path)


def test_in_memory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = filled(None, range(20))
    assert holds(cache, range(20)) and not list(tmp_path.iterdir())


def test_what_was_used_longest_ago_goes_first_and_what_is_in_use_stays(tmp_path):
    for name in ("a", "b", "c"):
        filled(tmp_path, range(ord(name), ord(name) + 3), name)
    a, b, c = shards_of(tmp_path)
    make_old(a, 9000)
    make_old(b, 99_000)
    size = a.stat().st_size
    assert clean_folder(tmp_path, 3 * size) == 0
    assert clean_folder(tmp_path, 2 * size) == size and shards_of(tmp_path) == [a, c]
    assert clean_folder(tmp_path, 0) == size and shards_of(tmp_path) == [c]


def test_reading_counts_as_use(tmp_path):
    filled(tmp_path, range(3), "a")
    (shard,) = shards_of(tmp_path)
    make_old(shard, 99_000)
    assert holds(TensorCache(tmp_path), range(3))
    assert clean_folder(tmp_path, 0) == 0 and shard.is_file()


def test_a_limit_is_kept_by_the_runs_themselves(tmp_path):
    filled(tmp_path, range(3), "old")
    make_old(shards_of(tmp_path)[0], 9000)
    set_size_limit(tmp_path, 0.0)
    assert size_limit_bytes(tmp_path) == 0
    filled(tmp_path, range(3, 6), "new")
    assert [shard.name[:3] for shard in shards_of(tmp_path)] == ["new"]


def test_half_written_files_of_the_killed_go_after_an_hour(tmp_path):
    for name, age_sec in ((".a.safetensors.1.tmp", 7200), (".b.safetensors.2.tmp", 60)):
        (tmp_path / name).write_bytes(b"x")
        make_old(tmp_path / name, age_sec)
    clean_folder(tmp_path, 1 << 30)
    assert [path.name for path in tmp_path.iterdir()] == [".b.safetensors.2.tmp"]


def test_the_command_shows_limits_and_cleans(tmp_path, capsys):
    assert main(["cache", "--output", str(tmp_path)]) == 2
    assert "There is no cache in" in capsys.readouterr().err
    filled(tmp_path / ".cache", range(3), "latents-64x64")
    filled(tmp_path / ".cache", range(3, 9), "text")
    for shard in shards_of(tmp_path / ".cache"):
        make_old(shard, 9000)
    assert main(["cache", "--output", str(tmp_path), "--limit", "5"]) == 0
    told = capsys.readouterr().out
    assert "latents-64x64" in told and "text" in told and "in 2 files, of 5.0 GiB allowed" in told
    assert main(["cache", "--output", str(tmp_path), "--clean"]) == 0
    assert "freed" in capsys.readouterr().out and folder_report(tmp_path / ".cache").num_files == 0
    assert main(["cache", "--output", str(tmp_path), "--limit", "-1"]) == 2


def test_models_written_from_wires_have_a_limit_of_their_own_and_stay_while_they_are_trained_on(tmp_path, capsys):
    folder = tmp_path / ".bases"
    assert main(["cache", "--models", "--output", str(tmp_path)]) == 2
    assert "There are no models written from wires in" in capsys.readouterr().err
    for name in ("a", "b"):
        filled(tmp_path / name, range(3), "latents-64x64")
        folder.mkdir(exist_ok=True)
        make_old(shards_of(tmp_path / name)[0].rename(folder / f"{name}.safetensors"), 9000)
    user = tmp_path / "checkpoints" / "own.safetensors"
    user.parent.mkdir()
    user.write_bytes(b"")
    make_old(user, 9000)
    before = user.stat().st_mtime
    assert size_limit_bytes(folder) == 96 << 30 and size_limit_bytes(tmp_path / ".cache") == 32 << 30
    mark_used([folder / "b.safetensors", user, folder / "gone.safetensors"])
    assert user.stat().st_mtime == before
    assert main(["cache", "--models", "--output", str(tmp_path), "--limit", "0"]) == 0
    told = capsys.readouterr().out
    assert "models" in told and "in 1 files, of 0.0 MiB allowed" in told and "freed" in told
    assert shards_of(folder) == [folder / "b.safetensors"]


def test_class_images_have_a_limit_and_go_with_their_captions(tmp_path, capsys):
    folder, now = tmp_path / "class-images", time.time()
    for prompt, age_sec in (("a-cat-1", 9000), ("a-dog-2", 5000), ("in-use-3", 10)):
        (folder / prompt).mkdir(parents=True)
        for name in ("0000000000", "0000000001"):
            (folder / prompt / f"{name}.png").write_bytes(b"x" * 1000)
            (folder / prompt / f"{name}.txt").write_text("a cat", encoding="utf-8")
            os.utime(folder / prompt / f"{name}.txt", (now - age_sec, now - age_sec))
    mark_used([folder / "a-dog-2" / "0000000001.png"])
    assert folder_report(folder).by_group == {"a-cat-1": 2000, "a-dog-2": 2000, "in-use-3": 2000}
    assert clean_folder(folder, 4500) == 2000 and sorted(path.name for path in folder.iterdir()) == ["a-dog-2", "in-use-3"]
    assert main(["cache", "--class-images", "--output", str(tmp_path), "--clean"]) == 0
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert left == [
        str(Path(name))
        for name in ("a-dog-2/0000000001.png", "a-dog-2/0000000001.txt", *(f"in-use-3/000000000{i}.{e}" for i in (0, 1) for e in ("png", "txt")))
    ]
    assert "in-use-3" in capsys.readouterr().out
    assert main(["cache", "--class-images", "--output", str(tmp_path / "none")]) == 2


def test_a_digest_is_of_the_content_and_remembered(tmp_path):
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "b.png").write_bytes(b"one")
    cache = TensorCache(tmp_path / "cache")
    digest = cache.digest(tmp_path / "a.png", "3-1")
    assert digest == cache.digest(tmp_path / "moved" / "b.png", "3-1"), "a copy needs no new encoding"
    cache.settle()
    (tmp_path / "a.png").write_bytes(b"two")
    again = TensorCache(tmp_path / "cache")
    assert again.digest(tmp_path / "a.png", "3-1") == digest, "not read again"
    assert again.digest(tmp_path / "a.png", "3-2") != digest


def test_what_was_found_out_once_is_remembered(tmp_path):
    cache, asked = TensorCache(tmp_path), []

    def make() -> str:
        asked.append(1)
        return "found"

    assert [cache.remembered("a", make), cache.remembered("a", make), TensorCache(tmp_path).remembered("a", make)] == ["found"] * 3 and len(
        asked
    ) == 2
    cache.settle()
    assert TensorCache(tmp_path).remembered("a", make) == "found" and len(asked) == 2, "in another run"


def test_keys_tell_everything_apart():
    assert cache_key("latents", "a", 1) == cache_key("latents", "a", 1)
    assert len({cache_key(*parts) for parts in (("a", "b"), ("ab",), ("a", "b", None), ("a", 1), ("a", "1"))}) == 5
