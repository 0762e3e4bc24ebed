"""Draws a comparison's missing pictures: the base is loaded once, each epoch once, each prompt encoded as rarely as it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters import Adapter
from ..adapters.attached import attach, kind_of, load, plans_of, set_strength
from ..cache import TensorCache
from ..config import CompareJob, SheetCell
from ..control import Control
from ..errors import AthanorError
from ..families import family as family_named
from ..families.base import Family, Framing, Part, Prompted, TextStack
from ..formats.layers import layers_of, read_tensors_of
from ..memory import best_device, peak_mib, release
from ..prompts import PromptBook
from ..run import EventLog, Run
from ..sampling import save_picture
from ..settings import AdapterSettings
from ..validate import check_compare_job

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH = 4


def draw_cells(run: Run, control: Control) -> None:
    """Draws what is not there yet, epoch by epoch and strength by strength, until `control` asks to stop."""
    import torch

    job = run.job()
    assert isinstance(job, CompareJob)
    check_compare_job(job)
    events, family, device = EventLog(run.folder), family_named(job.base.family), best_device()
    missing = [cell for cell in job.cells if not (run.folder / cell.file).is_file()]
    done = len(job.cells) - len(missing)
    events.write("start", {"step": done, "total_steps": len(job.cells)})
    if missing:
        dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
        autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
        painter = _Painter(job, family, device, TensorCache(run.folder.parents[2] / ".cache"))
        painter.load(missing, dtype)
        for _, group in groupby(missing, key=lambda cell: (cell.epoch, cell.strength)):
            cells = list(group)
            for start in range(0, len(cells), _BATCH):
                if control.stop_requested:
                    break
                piece = cells[start : start + _BATCH]
                with torch.no_grad(), autocast:
                    pictures = painter.paint(piece)
                for cell, picture in zip(piece, pictures, strict=True):
                    model = f"{Path(job.base.path).stem}, LoRA epoch {cell.epoch} at {cell.strength:g}" if cell.epoch else Path(job.base.path).stem
                    save_picture(run.folder / cell.file, picture, cell.prompt, job.negative_prompt, job.steps, cell.seed, job.guidance, model)
                    done += 1
                    events.write("cell", {"step": done, "file": cell.file})
    events.write("done", {"step": done, "stopped": done < len(job.cells), "peak_mib": round(peak_mib(), 1)})


class _Painter:
    """The base with one adapter of changing content and strength."""

    def __init__(self, job: CompareJob, family: Family, device: torch.device, cache: TensorCache):
        self._job, self._family, self._device, self._cache = job, family, device, cache
        self._files = dict(job.epochs)
        self._epoch = 0
        self._modules: dict[Part, nn.Module] = {}
        self._worn: dict[Part, tuple[Adapter, dict[str, nn.Module]]] = {}
        self._bare: list[Part] = []
        """The parts that the epoch now worn leaves alone; an earlier one may not have."""

    def load(self, cells: Sequence[SheetCell], dtype: torch.dtype) -> None:
        """Text first; the text encoder stays only if an epoch changes it."""
        job, family = self._job, self._family
        prompts = [*dict.fromkeys(cell.prompt for cell in cells), job.negative_prompt]
        text: TextStack | None = family.load_text(job.base, _float32())
        assert text is not None
        for encoder in text.parts().values():
            encoder.to(self._device)
        chunks = min(family.num_chunks(text, prompts), family.max_chunks)
        self._book = PromptBook(family, job.base.fingerprint, self._cache, chunks, self._device, text)
        changed = {part for part in family.text_parts for path in self._files.values() if self._has_part(path, part)}
        self._modules.update({part: module for part, module in text.parts().items() if part in changed})
        if not changed:
            self._book.store(prompts, lambda done, total: None)
            self._book.text = text = None
            release()
        self._vae = family.load_vae(job.base).to(self._device)
        self._modules["denoiser"] = family.load_denoiser(job.base, dtype).to(self._device)

    def paint(self, cells: Sequence[SheetCell]) -> list:
        """Pictures of cells that share epoch and strength."""
        self._wear(cells[0].epoch, cells[0].strength)
        size_px = (self._job.width_px, self._job.height_px)
        framing = [Framing.whole(size_px)]
        negative = self._book.conditioning([self._job.negative_prompt], framing)
        prompted = [Prompted(self._book.conditioning([cell.prompt], framing), negative, cell.seed) for cell in cells]
        return self._family.sample(self._job.base, self._modules["denoiser"], self._vae, prompted, self._job.steps, self._job.guidance, size_px)

    def _wear(self, epoch: int, strength: float) -> None:
        """Makes the models those of `epoch` at `strength`; epoch 0 is the base alone."""
        if epoch not in (0, self._epoch):
            tensors = read_tensors_of(Path(self._files[epoch]))
            self._bare = [part for part in self._modules if not self._load_part(part, tensors, Path(self._files[epoch]).name)]
            self._epoch = epoch
        for part, (kind, layers) in self._worn.items():
            set_strength(kind, layers, strength if epoch and part not in self._bare else 0.0)

    def _load_part(self, part: Part, tensors: Mapping[str, torch.Tensor], name: str) -> bool:
        """Whether the file has anything for the part."""
        module = self._modules[part]
        given = layers_of(tensors, self._family, part, [name for name, _ in module.named_modules()])
        if not given:
            return False
        kind_name, kind = kind_of(given, name)
        if part not in self._worn:
            settings = AdapterSettings(kind=kind_name, factor=0)
            self._worn[part] = kind, attach(kind, module, plans_of(kind, given), settings, 0)
            module.to(self._device).requires_grad_(False)
        worn, layers = self._worn[part]
        if worn is not kind or layers.keys() != given.keys():
            raise AthanorError(f"{name} has other layers than the epochs before it, or is of another kind; compare epochs of one run.")
        load(kind, layers, given)
        return True

    def _has_part(self, path: str, part: Part) -> bool:
        from ..formats.header import read_header

        return read_header(Path(path)).any_key(self._family.export_key(part, ""))


def _float32() -> torch.dtype:
    import torch

    return torch.float32
