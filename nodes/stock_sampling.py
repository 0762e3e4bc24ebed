"""Pictures by ComfyUI's own sampling: what Load LoRA, CLIP Text Encode, KSampler and VAE Decode give for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import node_helpers
from PIL import Image

import nodes as stock

from ..trainer.compare.recipe import BASELINE, Recipe
from ..trainer.errors import AthanorError
from ..trainer.files import content_fingerprint
from ..trainer.formats.embedding import read_vectors
from ..trainer.formats.header import read_header
from ..trainer.runs.files_beside import files_beside
from ..trainer.trainees.words import any_word, without_words
from . import host
from .patching import Patches, adapter_patches, with_embedding, with_patches

DEFAULT_SAMPLER, DEFAULT_SCHEDULER = "euler", "normal"


class StockPainter:
    """Applies each epoch once and encodes each prompt once, as long as pictures come in `drawing_order`."""

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        epoch_files: Mapping[tuple[str, int], Path],
        size_px: tuple[int, int],
        token: str,
        word_files: Mapping[tuple[str, int], Mapping[str, Path]],
        whole: bool = False,
    ):
        """`epoch_files` by run and epoch number. `token` is the embedding's word in the prompts; empty for LoRAs.

        `word_files`: the embeddings that an epoch has beside its file, by their words. `whole`: the epochs are whole models.
        """
        self._wired = (model, clip, vae)
        self._files, self._size_px, self._token, self._word_files, self._whole = epoch_files, size_px, token, word_files, whole
        self._names = tuple(dict.fromkeys([*([token] if token else []), *(name for files in word_files.values() for name in files)]))
        self._checkpoint, self._base = "", self._wired
        self._read: Path | None = None
        self._tensors: Mapping[str, Any] = {}
        self._patches: Patches | None = None
        """Of the epoch that was read last, on the base; None until they are wanted."""
        self._worn_as: tuple[object, ...] | None = None
        self._worn: tuple[Any, Any] = (model, clip)
        self._encoded: dict[str, Any] = {}
        self._encoded_bare: dict[str, Any] = {}
        self._encoded_worn: dict[float, dict[str, Any]] = {}
        """Of the epoch that is worn, by its strength in the text encoders."""

    def paint(self, recipe: Recipe) -> Image.Image:
        import numpy

        self._load(recipe.checkpoint)
        model, clip = self.worn(recipe)
        positive, negative = (self._encode(clip, self._text(recipe, text)) for text in (recipe.prompt, recipe.negative_prompt))
        if recipe.flux_guidance:
            # As the stock node FluxGuidance.
            positive = node_helpers.conditioning_set_values(positive, {"guidance": recipe.flux_guidance})
        width_px, height_px = self._size_px
        (empty,) = stock.EmptyLatentImage().generate(width_px, height_px, 1)
        sampler, scheduler = recipe.sampler or DEFAULT_SAMPLER, recipe.scheduler or DEFAULT_SCHEDULER
        (latent,) = stock.common_ksampler(model, recipe.seed, recipe.steps, recipe.guidance, sampler, scheduler, positive, negative, empty)
        (pixels,) = stock.VAEDecode().decode(self._base[2], latent)
        return Image.fromarray(numpy.clip(255.0 * pixels[0].cpu().numpy(), 0, 255).astype(numpy.uint8))

    def _load(self, checkpoint: str) -> None:
        if checkpoint == self._checkpoint:
            return
        if checkpoint:
            path, embeddings = host.base_model_path(checkpoint), list(map(str, host.embedding_folders()))
            self._base = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=True, output_clip=True, embedding_directory=embeddings)[:3]
        else:
            self._base = self._wired
        self._checkpoint, self._worn_as, self._patches = checkpoint, None, None
        self._encoded_bare.clear()
        self._encoded_worn.clear()

    def worn(self, recipe: Recipe) -> tuple[Any, Any]:
        """MODEL and CLIP with the recipe's epoch on them; those of the picture before where it is the same."""
        wanted = (recipe.run, recipe.epoch, recipe.strength_model, recipe.strength_text)
        if wanted == self._worn_as:
            return self._worn
        model, clip, _ = self._base
        if recipe.epoch != BASELINE and self._whole:
            model, clip = _whole_model(self._files[recipe.run, recipe.epoch], clip)
        elif recipe.epoch != BASELINE:
            at = recipe.run, recipe.epoch
            for name, path in {**({self._token: self._files[at]} if self._token else {}), **self._word_files.get(at, {})}.items():
                clip = with_embedding(clip, read_vectors(path), name, 1.0, content_fingerprint(path)[:12])
            if not self._token:
                file = self._files[at]
                if file != self._read:
                    read_header(file)  # says plainly what is wrong with a damaged one
                    self._tensors, self._read, self._patches = comfy.utils.load_torch_file(str(file), safe_load=True), file, None
                if self._patches is None:
                    self._patches = adapter_patches(model, clip, self._tensors, file.name)
                model, clip = with_patches(model, clip, self._patches, recipe.strength_model, recipe.strength_text)
        if self._worn_as is None or self._worn_as[:2] != wanted[:2]:
            self._encoded_worn = {}
        self._worn, self._worn_as = (model, clip), wanted
        # A LoRA that leaves the text encoders alone leaves the encodings alone, too.
        reads_anew = clip is not self._base[1] and (self._whole or bool(self._names) or self._changes_text(clip, recipe.strength_text))
        self._encoded = self._encoded_worn.setdefault(recipe.strength_text, {}) if reads_anew else self._encoded_bare
        return self._worn

    def let_go(self) -> None:
        """Refers to no models but the wired ones and to no encodings, so that their memory can be had."""
        self._base, self._checkpoint = self._wired, ""
        self._worn, self._worn_as, self._patches = self._wired[:2], None, None
        self._encoded = {}
        self._encoded_bare, self._encoded_worn = {}, {}

    def _changes_text(self, clip: Any, strength: float) -> bool:
        """The wired CLIP may wear a LoRA on the same weights already."""
        ours, wired = (sum(map(len, each.patcher.patches.values())) for each in (clip, self._base[1]))
        return strength != 0 and ours != wired

    def _text(self, recipe: Recipe, text: str) -> str:
        if not self._names:
            return text
        if recipe.epoch == BASELINE:
            return without_words(text, self._names)
        return any_word(self._names).sub(lambda found: f"embedding:{found[1]}", text)

    def _encode(self, clip: Any, text: str) -> Any:
        if text not in self._encoded:
            (self._encoded[text],) = stock.CLIPTextEncode().encode(clip, text)
        return self._encoded[text]


def _whole_model(file: Path, clip: Any) -> tuple[Any, Any]:
    """MODEL and CLIP of a checkpoint; of a denoiser's own file its MODEL and the CLIP that is wired."""
    if files_beside(file):
        raise AthanorError(f"Text encoders were trained with {file.name}; connect base_model instead of model, clip and vae to compare with them.")
    if read_header(file).any_key("first_stage_model."):
        embeddings = list(map(str, host.embedding_folders()))
        return comfy.sd.load_checkpoint_guess_config(str(file), output_vae=False, output_clip=True, embedding_directory=embeddings)[:2]
    return comfy.sd.load_diffusion_model(str(file)), clip


def is_told_guidance(model: Any) -> bool:
    """Whether the wired model takes its guidance as an input, as FLUX.1 dev does."""
    config = getattr(getattr(model, "model", None), "model_config", None)
    return bool(getattr(config, "unet_config", {}).get("guidance_embed"))


def check_wires(model: Any, clip: Any, vae: Any) -> None:
    """Raises AthanorError naming what of the three is not connected."""
    missing = [name for name, wire in (("model", model), ("clip", clip), ("vae", vae)) if wire is None]
    if missing:
        raise AthanorError(f"Connect {' and '.join(missing)} as well: ComfyUI's own sampling needs model, clip and vae, all of one checkpoint.")
