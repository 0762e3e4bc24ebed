"""Latents and text encodings on disk, under names that change when anything changes that they were made of.

One folder is shared by all runs. It holds shards: safetensors files of many entries, those of one bucket together. A shard is
written once, under a temporary name, and never changed, so a killed process loses what it encoded in the last seconds and
nothing else, and runs at the same time only ever see whole files. Which entries there are follows from the shards' own
headers: there is no index that could be out of step with them. Reading maps the file into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import to_json
from ..errors import AthanorError
from ..files import file_sha256, replace_atomically
from ..formats.header import read_header
from .cache_folder import SHARD_ENDING, clean_folder, is_whole, shards_of, size_limit_bytes

if TYPE_CHECKING:
    import torch

_MEMORY_BYTES = 512 << 20
_PENDING_BYTES = 64 << 20
_FLUSH_EVERY_SEC = 15.0
_MERGED_BYTES = 1 << 30
_TOUCH_EVERY_SEC = 600.0
_NUM_OPEN = 64
_DIGESTS_FILE = "digests.json"
_MAX_DIGESTS = 200_000

Entry = dict[str, "torch.Tensor"]


def cache_key(*parts: object) -> str:
    """A name for what is made of `parts` (values that `to_json` takes)."""
    return hashlib.sha256(json.dumps([to_json(part) for part in parts], sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()[:40]


class TensorCache:
    """Small named dictionaries of tensors. `folder` None keeps them in memory only. Safe to use from several threads."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._lock = threading.RLock()
        self._memory: OrderedDict[str, Entry] = OrderedDict()
        self._memory_bytes = 0
        self._pending: dict[str, dict[str, Entry]] = {}
        self._pending_bytes = 0
        self._flushed_sec = time.monotonic()
        self._places: dict[str, tuple[Path, tuple[str, ...]]] = {}
        self._seen: set[Path] = set()
        self._own: dict[str, list[Path]] = {}
        self._open: OrderedDict[Path, tuple[Any, float]] = OrderedDict()
        self._digests: dict[str, str] | None = None
        self._new_digests = False
        self._scan()

    @property
    def outlives_the_run(self) -> bool:
        return self._folder is not None

    def __contains__(self, key: str) -> bool:
        with self._lock:
            if key in self._memory or any(key in group for group in self._pending.values()):
                return True
            return key in self._places and self._places[key][0].is_file()

    def __getitem__(self, key: str) -> Entry:
        with self._lock:
            for group in self._pending.values():
                if key in group:
                    return group[key]
            if key not in self._memory:
                self._remember(key, self._read(key))
            self._memory.move_to_end(key)
            return self._memory[key]

    def put(self, key: str, tensors: Mapping[str, torch.Tensor], meaning: str, group: str = "other") -> None:
        """Keeps `tensors`, in a shard with others of their `group`; `settle` makes sure that they are on disk.

        Raises AthanorError, naming `meaning`, if a number in them is not finite.
        """
        for tensor in tensors.values():
            if not bool(tensor.isfinite().all()):
                raise AthanorError(f"{meaning} came out as not-a-number. Choose precision fp32, or a base model whose files are whole.")
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with self._lock:
            if self._folder is None:
                self._memory[key] = kept
                return
            self._pending.setdefault(group, {})[key] = kept
            self._pending_bytes += _num_bytes(kept)
            if self._pending_bytes > _PENDING_BYTES or time.monotonic() - self._flushed_sec > _FLUSH_EVERY_SEC:
                self._flush()

    def look_again(self) -> None:
        """Takes in what other processes have written since."""
        with self._lock:
            self._scan()

    def settle(self) -> None:
        """Writes what is not on disk yet, joins the shards of a group that this process made, and keeps the folder under its limit."""
        if self._folder is None:
            return
        with self._lock:
            self._flush()
            # Both only save time: a disk without room for them ends no run, nor do files that another one takes away.
            with contextlib.suppress(AthanorError, OSError):
                for group, shards in self._own.items():
                    self._own[group] = self._merged(group, shards)
            with contextlib.suppress(AthanorError):
                self._keep_digests()
        clean_folder(self._folder, size_limit_bytes(self._folder))

    def digest(self, path: Path, state: str) -> str:
        """The hash of a file's content; read anew only where `state` (its size and time) is another than when it was last asked for."""
        return self.remembered(f"{path}|{state}", lambda: file_sha256(path))

    def remembered(self, name: str, make: Callable[[], str]) -> str:
        """What `make` gave when `name` was asked for first, in whichever run."""
        with self._lock:
            if self._digests is None:
                self._digests = _read_digests(self._folder)
            known = self._digests.get(name)
            if known is None:
                known = self._digests[name] = make()
                self._new_digests = True
            return known

    def _read(self, key: str) -> Entry:
        if key not in self._places or not self._places[key][0].is_file():
            self._scan()
        if key not in self._places:
            raise AthanorError("Something that was encoded is gone from the cache; queue again, and it is encoded anew.")
        shard, names = self._places[key]
        try:
            file = self._opened(shard)
            return {name: file.get_tensor(f"{key}/{name}") for name in names}
        except Exception as error:
            self._forget(shard)
            if not shard.is_file():
                # Joined with others, or cleaned away, by another run at this very moment.
                return self._read(key)
            with contextlib.suppress(OSError):
                shard.unlink()
            raise AthanorError(f"The cached file {shard} is damaged ({error}) and was deleted; queue again.") from None

    def _opened(self, shard: Path) -> Any:
        """The open shard; its time of change tells when it was used last."""
        from safetensors import safe_open

        file, touched_sec = self._open.pop(shard, (None, -_TOUCH_EVERY_SEC))
        if file is None:
            file = safe_open(shard, framework="pt")
        if time.monotonic() - touched_sec >= _TOUCH_EVERY_SEC:
            with contextlib.suppress(OSError):
                os.utime(shard)  # `touch` would bring an empty file back where another run has cleaned it away
            touched_sec = time.monotonic()
        self._open[shard] = (file, touched_sec)
        if len(self._open) > _NUM_OPEN:
            self._open.popitem(last=False)
        return file

    def _scan(self) -> None:
        """Takes in the shards that were not there before."""
        if self._folder is None:
            return
        for shard in shards_of(self._folder):
            if shard in self._seen:
                continue
            if not is_whole(shard):
                with contextlib.suppress(OSError):
                    shard.unlink()
                continue
            # What a program of another kind put there, or what has just gone, holds nothing.
            with contextlib.suppress(AthanorError):
                self._take_in(shard, read_header(shard).shapes)

    def _take_in(self, shard: Path, names: Iterable[str]) -> None:
        """`names` of the tensors: key, a stroke, and the name in the entry."""
        self._seen.add(shard)
        entries: dict[str, tuple[str, ...]] = {}
        for name in names:
            key, _, inner = name.rpartition("/")
            entries[key] = (*entries.get(key, ()), inner)
        self._places.update({key: (shard, inner) for key, inner in entries.items()})

    def _forget(self, shard: Path) -> None:
        self._open.pop(shard, None)
        self._seen.discard(shard)
        self._places = {key: place for key, place in self._places.items() if place[0] != shard}

    def _flush(self) -> None:
        self._flushed_sec = time.monotonic()
        for group, entries in list(self._pending.items()):
            self._own.setdefault(group, []).append(self._write(group, entries))
            del self._pending[group]
            self._pending_bytes -= sum(map(_num_bytes, entries.values()))
            for key, entry in entries.items():
                self._remember(key, entry)

    def _keep_digests(self) -> None:
        assert self._folder is not None
        if self._new_digests and self._digests is not None:
            kept = dict(list(self._digests.items())[-_MAX_DIGESTS:])
            replace_atomically(self._folder / _DIGESTS_FILE, lambda temporary: temporary.write_text(json.dumps(kept), encoding="utf-8"))
            self._new_digests = False

    def _write(self, group: str, entries: Mapping[str, Entry]) -> Path:
        from safetensors.torch import save_file

        assert self._folder is not None
        digest = hashlib.sha256("".join(sorted(entries)).encode()).hexdigest()[:16]
        shard = self._folder / f"{group}-{digest}{SHARD_ENDING}"
        tensors = {f"{key}/{name}": tensor for key, entry in entries.items() for name, tensor in entry.items()}
        # It may be there already: the same entries, made by a run at the same time.
        if not (shard.is_file() and is_whole(shard)):
            replace_atomically(shard, lambda temporary: save_file(tensors, temporary))
        self._take_in(shard, tensors)
        return shard

    def _merged(self, group: str, shards: list[Path]) -> list[Path]:
        """One shard instead of several small ones."""
        small = [shard for shard in shards if shard.is_file()]
        if len(small) < 2 or sum(shard.stat().st_size for shard in small) > _MERGED_BYTES:
            return shards
        entries = {key: self._read(key) for key, (shard, _) in list(self._places.items()) if shard in small}
        merged = self._write(group, entries)
        for shard in small:
            if shard != merged:
                self._open.pop(shard, None)
                self._seen.discard(shard)
                # Where another run reads it at this moment it stays until the next cleaning.
                with contextlib.suppress(OSError):
                    shard.unlink()
        return [merged]

    def _remember(self, key: str, tensors: Entry) -> None:
        if key in self._memory:
            return
        self._memory[key] = tensors
        self._memory_bytes += _num_bytes(tensors)
        while self._memory_bytes > _MEMORY_BYTES and len(self._memory) > 1:
            self._memory_bytes -= _num_bytes(self._memory.popitem(last=False)[1])


def _read_digests(folder: Path | None) -> dict[str, str]:
    try:
        data = json.loads((folder / _DIGESTS_FILE).read_text(encoding="utf-8")) if folder else {}
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _num_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
