"""A base that wears one epoch after the other: loaded once, each file read once, each prompt encoded as rarely as it can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters import Adapter
from ..adapters.attached import attach, kind_of, load, plans_of, set_strength
from ..adapters.check import needs_unpacked
from ..adapters.whole import WholeChanges, parted
from ..base_merges import merge_into, merged_fingerprint
from ..config import CompareJob, SheetCell
from ..data.cache import TensorCache
from ..data.prompts import PromptBook, text_id_of, text_precision
from ..errors import AthanorError
from ..families import family as family_named
from ..families.base import Conditioning, Family, Framing, Part, Prompted, TextStack
from ..formats.embedding import num_vectors_of
from ..formats.header import read_header
from ..formats.layers import layers_of, read_tensors_of, unread_note
from ..memory.devices import free_gpu_bytes, release
from ..memory.offload import bring_encoders
from ..memory.storage import chosen_storage, hold, room_on
from ..settings import AdapterSettings
from ..trainees.checkpoint_file import take_checkpoint
from ..trainees.embedding import NewWords, new_words
from ..trainees.words import Word, without_words
from ..types import BaseModel

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn


class Painter:
    """The base with one adapter, or one embedding, of changing content and strength."""

    def __init__(self, job: CompareJob, device: torch.device, cache: TensorCache):
        import torch

        self._job, self._device, self._cache = job, device, cache
        self.family: Family = family_named(job.base.family)
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[job.precision]
        self.autocast = torch.autocast(device.type, dtype=None if job.precision == "fp32" else self._dtype, enabled=job.precision != "fp32")
        self._file = ""
        self.notes: list[str] = []
        """What should be known of the files that were worn."""
        self._modules: dict[Part, nn.Module] = {}
        self._worn: dict[Part, tuple[Adapter, dict[str, nn.Module]]] = {}
        self._whole: dict[Part, WholeChanges] = {}
        self._forms: dict[Part, dict[tuple[str, str], tuple[int, ...]]] = {}
        """The shapes of the tensors that are worn, by layer and suffix."""
        self._bare: list[Part] = []
        """The parts that the epoch now worn leaves alone; an earlier one may not have."""
        self._embedding: NewWords | None = None
        self._names = (*((job.token,) if job.token else ()), *job.words)
        """Of all embeddings; where the epochs are embeddings themselves, they come first."""
        self._word_files: dict[str, tuple[str, ...]] = {}
        """By an epoch's file the files of all its embeddings."""

    def load(self, cells: Sequence[SheetCell], captions: Sequence[str] = ()) -> None:
        """Text first; the text encoder stays only if an epoch changes it. `captions` will be asked for beside the cells' prompts."""
        import torch

        job, family = self._job, self.family
        merged = AdapterSettings(merge_files=job.merge_files)
        files = list(dict.fromkeys(cell.epoch_file for cell in cells if cell.epoch_file))
        encoding = text_precision(family, job.precision)
        text: TextStack | None = family.load_text(job.base, torch.bfloat16 if encoding == "bf16" else torch.float32)
        assert text is not None
        text_id = merged_fingerprint(text_id_of(job.base, family, text, self._cache), merged)
        in_text = merge_into(merged, family, text.parts())
        own = (lambda file: (file,)) if job.token else (lambda file: ())
        self._word_files = {cell.epoch_file: (*own(cell.epoch_file), *cell.word_files) for cell in cells if cell.epoch_file}
        if self._names and files:
            each = zip(self._names, zip(*self._word_files.values(), strict=True), strict=True)
            words = [Word(name, max(num_vectors_of(Path(file)) for file in dict.fromkeys(of_name))) for name, of_name in each]
            self._embedding = new_words(words, family, job.base, text, 0)
        if job.trained_parts:
            changed = {part for part in text.parts() if part in job.trained_parts and files}
        else:
            changed = {part for part in text.parts() for path in files if not job.token and self._has_part(path, part)}
        # What an epoch changes has to be whole.
        bring_encoders(text.parts().values(), self._device, math.inf if changed or self._embedding is not None else free_gpu_bytes(self._device))
        written = [(cell.epoch_file, words) for cell in cells for words in (cell.prompt, cell.negative_prompt)]
        written += [(file, caption) for caption in captions for file in ("", *files)]
        prompts = list(dict.fromkeys(self._prompt(file, words) for file, words in written))
        chunks = min(family.num_chunks(text, prompts), family.max_chunks)
        self._book = PromptBook(family, text_id, self._cache, chunks, self._device, text, encoding)
        self._modules.update({part: module for part, module in text.parts().items() if part in changed})
        if not changed and self._embedding is None:
            self._book.store(prompts, lambda done, total: None)
            self._book.text = text = None
            release()
        self.vae = family.load_vae(job.base).to(self._device)
        denoiser = family.load_denoiser(job.base, self._dtype)
        merge_into(merged, family, {"denoiser": denoiser}, before=in_text)
        if not job.trained_parts:
            num_weights = sum(parameter.numel() for parameter in denoiser.parameters())
            packs = not any(needs_unpacked(Path(file)) for file in files)
            wanted = "auto" if job.base_precision == "nf4" and not packs else job.base_precision
            denoiser = hold(denoiser, chosen_storage(wanted, job.precision, num_weights, room_on(self._device, packs)), job.precision)
        self._modules["denoiser"] = denoiser.to(self._device)

    @property
    def base(self) -> BaseModel:
        return self._job.base

    @property
    def denoiser(self) -> nn.Module:
        return self._modules["denoiser"]

    def drop_models(self) -> None:
        """Gives the memory back; nothing can be drawn any more."""
        self._modules.clear()
        self._worn.clear()
        self._whole.clear()
        self._book.text = self._embedding = None
        del self.vae
        release()

    def paint(self, cells: Sequence[SheetCell]) -> list[Image.Image]:
        """Pictures of cells that share epoch, strengths, steps and guidance."""
        first = cells[0]
        self.wear(first.epoch_file, first.strength_model, first.strength_text)
        size_px = (self._job.width_px, self._job.height_px)
        framing = [Framing.whole(size_px)]
        prompted = [
            Prompted(
                self.conditioning(cell.epoch_file, [cell.prompt], framing),
                self.conditioning(cell.epoch_file, [cell.negative_prompt], framing),
                cell.seed,
            )
            for cell in cells
        ]
        return self.family.sample(self._job.base, self.denoiser, self.vae, prompted, first.steps, first.guidance, size_px)

    def conditioning(self, file: str, prompts: Sequence[str], framings: Sequence[Framing]) -> Conditioning:
        """Of the prompts as the epoch in `file` reads them, which is to be worn; "" is the base alone."""
        return self._book.conditioning([self._prompt(file, prompt) for prompt in prompts], framings)

    def _prompt(self, file: str, prompt: str) -> str:
        """With the embeddings' names as their tokens; without them where the base alone is drawn, as ComfyUI does with an embedding it lacks."""
        if file and self._embedding is not None:
            return self._embedding.prompt(prompt)
        return without_words(prompt, self._names)

    def wear(self, file: str, strength_model: float, strength_text: float) -> None:
        """Makes the models those of the epoch in `file`; without one they are the base alone."""
        if self._job.trained_parts:
            self._become(file)
            return
        if file and file != self._file:
            self._file = ""  # A file that cannot be worn may have been put on in part.
            if self._embedding is not None:
                for name, path in zip(self._names, self._word_files[file], strict=True):
                    self._embedding.put(name, Path(path))
            if not self._job.token:
                tensors = read_tensors_of(Path(file))
                self._bare = [part for part in self._modules if not self._load_part(part, tensors, Path(file).name)]
                self._note(tensors, Path(file).name)
                if len(self._bare) == len(self._modules):
                    raise AthanorError(f"{Path(file).name} changes nothing of {self.family.title}; it was made for another family of models.")
            self._file = file
        for part, (kind, layers) in self._worn.items():
            strength = strength_model if part == "denoiser" else strength_text
            set_strength(kind, layers, strength if file and part not in self._bare else 0.0)
        for part, changes in self._whole.items():
            changes.set_strength((strength_model if part == "denoiser" else strength_text) if file else 0.0)

    def _note(self, tensors: Mapping[str, torch.Tensor], name: str) -> None:
        modules = {part: [each.replace(".base_layer", "") for each, _ in module.named_modules()] for part, module in self._modules.items()}
        note = unread_note(tensors, self.family, modules, name)
        if note and note not in self.notes:
            self.notes.append(note)

    def _become(self, file: str) -> None:
        """Gives the trained parts the weights of the whole model in `file`, or those of the base again."""
        if file == self._file:
            return
        job, family = self._job, self.family
        if file:
            parts = {part: dict(module.named_parameters()) for part, module in self._modules.items() if part in job.trained_parts}
            take_checkpoint(Path(file), family, job.base, parts)
        else:
            fresh: dict[Part, nn.Module] = {"denoiser": family.load_denoiser(job.base, self._dtype)}
            if len(self._modules) > 1:
                fresh.update(family.load_text(job.base, next(self._modules[part] for part in self._modules if part != "denoiser").dtype).parts())
            for part, module in self._modules.items():
                module.load_state_dict(fresh[part].state_dict())
        self._file = file

    def _load_part(self, part: Part, tensors: Mapping[str, torch.Tensor], name: str) -> bool:
        """Whether the file has anything for the part."""
        module = self._modules[part]
        given, whole = parted(layers_of(tensors, self.family, part, [name for name, _ in module.named_modules()]))
        if part in self._whole:
            self._whole.pop(part).set_strength(0.0)
        if whole:
            self._whole[part] = WholeChanges(module, whole, name)
        if not given:
            if whole and part in self._worn:
                self._take_off(part)
            return bool(whole)
        kind_name, kind = kind_of(given, name)
        form = {(layer, suffix): tuple(tensor.shape) for layer, held in given.items() for suffix, tensor in held.items()}
        if part in self._worn and (self._worn[part][0] is not kind or self._forms[part] != form):
            # Of another rank, kind or choice of layers, as another run's may be.
            self._take_off(part)
        if part not in self._worn:
            settings = AdapterSettings(kind=kind_name, factor=0)
            self._worn[part], self._forms[part] = (kind, attach(kind, module, plans_of(kind, given), settings, 0)), form
            module.to(self._device).requires_grad_(False)
        load(kind, self._worn[part][1], given)
        return True

    def _take_off(self, part: Part) -> None:
        """The part without any adapter, as it was loaded."""
        module, (_, layers) = self._modules[part], self._worn.pop(part)
        for name, layer in layers.items():
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, layer.base_layer)
        if hasattr(module, "peft_config"):
            del module.peft_config

    def _has_part(self, path: str, part: Part) -> bool:
        exported = self.family.export_key(part, "").removesuffix("text_model_")
        # OneTrainer counts FLUX's T5 as the second encoder.
        second = exported.replace("lora_te3_", "lora_te2_encoder_")
        return read_header(Path(path)).any_key(exported, second, f"{part}.", *self.family.other_names(part, ""))
