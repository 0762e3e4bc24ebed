"""Draws a comparison's missing pictures: the base is loaded once, each epoch once, each prompt encoded as rarely as it can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters import Adapter
from ..adapters.attached import attach, kind_of, load, plans_of, set_strength
from ..cache import TensorCache
from ..cache_folder import CACHE
from ..config import CompareJob, SheetCell, TrainJob
from ..control import Control
from ..embedding_trainee import embedding_trainee, without_word
from ..errors import AthanorError
from ..families import family as family_named
from ..families.base import Family, Framing, Part, Prompted, TextStack
from ..formats.header import read_header
from ..formats.layers import layers_of, read_tensors_of
from ..memory import best_device, free_gpu_bytes, peak_mib, release
from ..offload import bring_encoders
from ..prompts import PromptBook, text_precision
from ..run import EventLog, Run
from ..sampling import save_picture
from ..settings import AdapterSettings, EmbeddingSettings
from ..storage import chosen_storage, hold, room_on
from ..trainee import Trainee
from ..types import Dataset
from ..validate import check_compare_job

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_BATCH = 4


def draw_cells(run: Run, control: Control) -> None:
    """Draws what is not there yet, epoch by epoch and strength by strength, until `control` asks to stop.

    A picture that fails is told by an event and the others are drawn; where all fail, the first reason is raised.
    """
    import torch

    job = run.job()
    assert isinstance(job, CompareJob)
    check_compare_job(job)
    events, family, device = EventLog(run.folder), family_named(job.base.family), best_device()
    missing = [cell for cell in job.cells if not (run.folder / cell.file).is_file()]
    done = len(job.cells) - len(missing)
    events.write("start", {"step": done, "total_steps": len(job.cells)})
    failures: list[Exception] = []
    if missing:
        dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
        autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
        painter = _Painter(job, family, device, TensorCache(run.folder.parents[2] / CACHE))
        painter.load(missing, dtype)
        for _, group in groupby(missing, key=lambda cell: (cell.epoch_file, cell.strength_model, cell.strength_text, cell.steps, cell.guidance)):
            cells = list(group)
            for start in range(0, len(cells), _BATCH):
                if control.stop_requested:
                    break
                piece = cells[start : start + _BATCH]
                try:
                    with torch.no_grad(), autocast:
                        pictures = painter.paint(piece)
                except (AthanorError, RuntimeError) as error:
                    failures.append(error)
                    for cell in piece:
                        events.write("cell_failed", {"step": done, "file": cell.file, "message": str(error).splitlines()[0]})
                    continue
                for cell, picture in zip(piece, pictures, strict=True):
                    save_picture(run.folder / cell.file, picture, cell.prompt, cell.negative_prompt, cell.steps, cell.seed, cell.guidance, cell.label)
                    done += 1
                    events.write("cell", {"step": done, "file": cell.file})
    if failures and done == len(job.cells) - len(missing):
        raise failures[0]
    events.write("done", {"step": done, "stopped": done < len(job.cells), "peak_mib": round(peak_mib(), 1)})


class _Painter:
    """The base with one adapter, or one embedding, of changing content and strength."""

    def __init__(self, job: CompareJob, family: Family, device: torch.device, cache: TensorCache):
        self._job, self._family, self._device, self._cache = job, family, device, cache
        self._file = ""
        self._modules: dict[Part, nn.Module] = {}
        self._worn: dict[Part, tuple[Adapter, dict[str, nn.Module]]] = {}
        self._bare: list[Part] = []
        """The parts that the epoch now worn leaves alone; an earlier one may not have."""
        self._embedding: Trainee | None = None

    def load(self, cells: Sequence[SheetCell], dtype: torch.dtype) -> None:
        """Text first; the text encoder stays only if an epoch changes it."""
        job, family = self._job, self._family
        files = list(dict.fromkeys(cell.epoch_file for cell in cells if cell.epoch_file))
        encoding = text_precision(family, job.precision)
        text: TextStack | None = family.load_text(job.base, dtype if encoding == "bf16" else _float32())
        assert text is not None
        if job.token and files:
            self._embedding = _empty_embedding(job, family, text, files[0])
        changed = {part for part in text.parts() for path in files if self._has_part(path, part)}
        # What an epoch changes has to be whole.
        bring_encoders(text.parts().values(), self._device, math.inf if changed or self._embedding is not None else free_gpu_bytes(self._device))
        prompts = [words for cell in cells for words in (self._prompt(cell, cell.prompt), self._prompt(cell, cell.negative_prompt))]
        chunks = min(family.num_chunks(text, prompts), family.max_chunks)
        self._book = PromptBook(family, job.base.text_identity, self._cache, chunks, self._device, text, encoding)
        self._modules.update({part: module for part, module in text.parts().items() if part in changed})
        if not changed and self._embedding is None:
            self._book.store(prompts, lambda done, total: None)
            self._book.text = text = None
            release()
        self._vae = family.load_vae(job.base).to(self._device)
        denoiser = family.load_denoiser(job.base, dtype)
        num_weights = sum(parameter.numel() for parameter in denoiser.parameters())
        storage = chosen_storage("auto", job.precision, num_weights, room_on(self._device))
        self._modules["denoiser"] = hold(denoiser, storage, job.precision).to(self._device)

    def paint(self, cells: Sequence[SheetCell]) -> list[Image.Image]:
        """Pictures of cells that share epoch, strengths, steps and guidance."""
        first = cells[0]
        self._wear(first.epoch_file, first.strength_model, first.strength_text)
        size_px = (self._job.width_px, self._job.height_px)
        framing = [Framing.whole(size_px)]
        prompted = [
            Prompted(
                self._book.conditioning([self._prompt(cell, cell.prompt)], framing),
                self._book.conditioning([self._prompt(cell, cell.negative_prompt)], framing),
                cell.seed,
            )
            for cell in cells
        ]
        return self._family.sample(self._job.base, self._modules["denoiser"], self._vae, prompted, first.steps, first.guidance, size_px)

    def _prompt(self, cell: SheetCell, prompt: str) -> str:
        """With the embedding's name as its tokens; without it where the base alone is drawn, as ComfyUI does with an embedding it lacks."""
        if not self._job.token:
            return prompt
        if cell.epoch_file and self._embedding is not None:
            return self._embedding.prompt(prompt)
        return without_word(prompt, self._job.token)

    def _wear(self, file: str, strength_model: float, strength_text: float) -> None:
        """Makes the models those of the epoch in `file`; without one they are the base alone."""
        if file and file != self._file:
            tensors = read_tensors_of(Path(file))
            if self._embedding is not None:
                _put_vectors(self._embedding, tensors, file)
            else:
                self._bare = [part for part in self._modules if not self._load_part(part, tensors, Path(file).name)]
                if len(self._bare) == len(self._modules):
                    raise AthanorError(f"{Path(file).name} changes nothing of {self._family.title}; it was made for another family of models.")
            self._file = file
        for part, (kind, layers) in self._worn.items():
            strength = strength_model if part == "denoiser" else strength_text
            set_strength(kind, layers, strength if file and part not in self._bare else 0.0)

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
        exported = self._family.export_key(part, "")
        # OneTrainer counts FLUX's T5 as the second encoder.
        second = exported.replace("lora_te3_", "lora_te2_encoder_")
        return read_header(Path(path)).any_key(exported, second, f"{part}.", *self._family.other_names(part, ""))


def _empty_embedding(job: CompareJob, family: Family, text: TextStack, file: str) -> Trainee:
    """Room for an embedding's vectors in the text encoders' tables."""
    num_vectors = max(shape[0] for shape in read_header(Path(file)).shapes.values() if len(shape) == 2)
    settings = EmbeddingSettings(token=job.token, num_vectors=num_vectors)
    return embedding_trainee(TrainJob("compared", job.base, Dataset(()), kind="embedding", embedding=settings), family, text)


def _put_vectors(embedding: Trainee, tensors: Mapping[str, torch.Tensor], file: str) -> None:
    import torch

    with torch.no_grad():
        for key, vectors in embedding.groups[0].parameters.items():
            if key not in tensors or tensors[key].shape != vectors.shape:
                raise AthanorError(
                    f"{file} holds no vectors {key} of the shape {tuple(vectors.shape)}; it belongs to another embedding or another base."
                )
            vectors.copy_(tensors[key] / embedding.units[key])


def _float32() -> torch.dtype:
    import torch

    return torch.float32
