"""Stable Diffusion 3.5 medium and large: rectified flow, CLIP-L, CLIP-G and T5, sixteen latent channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import Header, read_model_header
from ..formats.native import sd3_places
from ..types import BaseModel
from . import FAMILIES
from ._clip import (
    G_KINDS,
    L_KINDS,
    chunk_ids,
    clip_end,
    clip_key,
    clip_pooled,
    clip_states,
    clip_targets,
    count_chunks,
    load_clip_model,
    other_clip_names,
)
from ._flow import guided, integrate, logit_normal, schedule, shifted
from ._latents import conditioning_of, decoded, encoded, load_vae, start_noise
from ._native import TensorFile, count_blocks, empty, fill, locate_in
from ._parts import T5, broken_files, find_any, find_part, missing_part, open_any, open_part, text_paths, vae, vae_paths
from ._pipeline import component, missing_components, pipeline_class
from ._places import clip_places, t5_places, transformer_places
from ._t5 import encode_t5, load_t5, t5_ids, t5_key, t5_targets
from ._tokenizers import CLIP_TOKENIZER, T5_TOKENIZER, load_tokenizer, missing_tokenizer
from ._weights import read_json
from ._whole import SavedPart, clip_part, t5_saved, transformer_part
from .base import BaseFacts, Conditioning, Framing, ModulePlaces, Part, Prompted, TextStack

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
_HEAD_WIDTH = 64
_NUM_TRAIN_TIMES = 1000
_SHIFT = 3.0
"""Of training and of pictures, as Stability's own code and ComfyUI have it."""
_CLIP_TOKENS = 77
_T5_WIDTH = 4096
_VAE, _VAE_SCALE, _VAE_SHIFT = vae("sd3.5_vae.safetensors"), 1.5305, 0.0609
_CLIP_LAYER = 2
_CLIP_G_PAD = 0
_FOLDER = (("transformer", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"), ("text_encoder_2", "model"))
_T5_FOLDER = ("text_encoder_3", "model")


class SD35:
    name = "sd35"
    title = "SD3.5"
    modelspec_implementation = "diffusers"
    latent_channels = 16
    vae_stride_px = 8
    native_px = 1024
    bucket_step_px = 64
    side_step_px = 16
    large_text = True
    max_chunks = 3
    max_clip_skip = 0
    sampler_name = "Euler"
    text_parts: tuple[Part, ...] = ("text_encoder", "text_encoder_2")
    has_block_rows = True
    reads_negative_prompt = True
    saves_whole = False
    separate_encoders: tuple[str, ...] = ("clip_l", "clip_g", "t5")

    def matches(self, header: Header) -> bool:
        prefix = _prefix(header)
        if prefix is None:
            return False
        if f"{prefix}joint_blocks.0.x_block.attn.ln_q.weight" not in header.shapes:
            raise AthanorError("This file is SD3.0, the forerunner of SD3.5 without its normed attention; choose SD3.5 medium or large.")
        channels = header.shapes[f"{prefix}x_embedder.proj.weight"][1]
        if channels != self.latent_channels:
            raise AthanorError(
                f"This file is an SD3.5 for filling, editing or control ({channels} channels come in instead of {self.latent_channels}); "
                "choose SD3.5 medium or large."
            )
        if f"{prefix}y_embedder.mlp.0.weight" not in header.shapes or header.any_key(f"{prefix}context_processor."):
            raise AthanorError(
                "This file is a relation of SD3.5 that reads words in another way, which cannot be trained; choose SD3.5 medium or large."
            )
        return True

    def matches_folder(self, folder: Path) -> bool:
        if pipeline_class(folder, "transformer") != "SD3Transformer2DModel":
            return False
        return _is_plain(read_json(folder / "transformer" / "config.json"))

    def facts_of_file(self, header: Header) -> BaseFacts:
        prefix = _prefix(header)
        dual = any(key.endswith(".x_block.attn2.qkv.weight") for key in header.shapes if key.startswith(f"{prefix}joint_blocks."))
        return BaseFacts(self.native_px, self.bucket_step_px, "flow", variant="medium" if dual else "large")

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        dual = read_json(folder / "transformer" / "config.json").get("dual_attention_layers")
        return BaseFacts(self.native_px, self.bucket_step_px, "flow", variant="medium" if dual else "large")

    def reads_guidance(self, base: BaseModel) -> bool:
        return True

    def kohya_version(self, base: BaseModel) -> str:
        return f"5-{base.variant}"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return f"stable-diffusion-3-5-{base.variant}"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        """T5 may be absent, as in ComfyUI: pictures and training then go without it."""
        path = Path(base.path)
        if broken := broken_files(base):
            return broken
        if path.is_dir():
            missing = missing_components(path, (*_FOLDER, _T5_FOLDER) if _has_t5(base) else _FOLDER)
        else:
            wanted = ((L_KINDS, text_paths(base)), (G_KINDS, text_paths(base)), ((_VAE,), vae_paths(base)))
            missing = tuple(missing_part(kinds[0], paths) for kinds, paths in wanted if find_any(kinds, paths) is None)
        t5 = missing_tokenizer(base, T5_TOKENIZER) if _has_t5(base) else ()
        return (*missing, *missing_tokenizer(base, CLIP_TOKENIZER), *t5)

    def t5_part(self, base: BaseModel) -> Part | None:
        return "text_encoder_3" if _has_t5(base) else None

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        """CLIP-L, CLIP-G and T5, in this order; T5 may be None."""
        from transformers import CLIPTextModelWithProjection, T5EncoderModel

        path, clip_tokenizer = Path(base.path), load_tokenizer(base, CLIP_TOKENIZER)
        clip_l: nn.Module
        clip_g: nn.Module
        t5: nn.Module | None = None
        if path.is_dir():
            clip_l, clip_g = (component(CLIPTextModelWithProjection, path / part, dtype) for part in ("text_encoder", "text_encoder_2"))
            if _has_t5(base):
                t5 = component(T5EncoderModel, path / "text_encoder_3", dtype)
        else:
            clip_l = load_clip_model(open_any(L_KINDS, text_paths(base)), dtype, "quick_gelu", projected=False)
            clip_g = load_clip_model(open_any(G_KINDS, text_paths(base)), dtype, "gelu", projected=True)
            if _has_t5(base):
                t5 = load_t5(open_part(T5, text_paths(base)), dtype)
        # CLIP-G has a copy of its own: an embedding adds words to each tokenizer.
        tokenizers = (clip_tokenizer, load_tokenizer(base, CLIP_TOKENIZER), load_tokenizer(base, T5_TOKENIZER) if t5 is not None else None)
        return TextStack(tokenizers, (clip_l, clip_g, t5))

    def load_vae(self, base: BaseModel) -> nn.Module:
        return load_vae(base, _VAE, _VAE_SCALE, _VAE_SHIFT)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        from diffusers import SD3Transformer2DModel

        path = Path(base.path)
        if path.is_dir():
            return component(SD3Transformer2DModel, path / "transformer", dtype)
        prefix = _prefix(read_model_header(path))
        assert prefix is not None, "recognised before"
        file = TensorFile(path, prefix)
        num_blocks = count_blocks(file.names, "joint_blocks")
        dual = tuple(i for i in range(num_blocks) if f"joint_blocks.{i}.x_block.attn2.qkv.weight" in file.names)
        patches = file.stored("x_embedder.proj.weight")
        # Text and picture have the same width in every block.
        width, joint_width = file.stored("context_embedder.weight").shape
        denoiser = empty(
            lambda: SD3Transformer2DModel(
                patch_size=patches.shape[-1],
                in_channels=patches.shape[1],
                out_channels=patches.shape[1],
                num_layers=num_blocks,
                attention_head_dim=_HEAD_WIDTH,
                num_attention_heads=width // _HEAD_WIDTH,
                joint_attention_dim=joint_width,
                caption_projection_dim=width,
                pooled_projection_dim=file.stored("y_embedder.mlp.0.weight").shape[1],
                pos_embed_max_size=round(file.stored("pos_embed").shape[1] ** 0.5),
                dual_attention_layers=dual,
                qk_norm="rms_norm",
            )
        )
        locate = locate_in(sd3_places(num_blocks, dual), {"pos_embed.pos_embed": "pos_embed"})
        return fill(denoiser, file, locate, dtype, "SD3.5 transformer")

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encoded(vae, pixels)

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        return decoded(vae, latents)

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        """Of CLIP; T5 gets as many tokens as CLIP has."""
        return count_chunks(text.tokenizers[0], captions)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        """Each encoder's own output, which `frame` puts together."""
        clip_l, clip_g, t5 = text.encoders
        assert clip_l is not None and clip_g is not None
        layer, (words_l, words_g, pieces) = text.clip_skip or _CLIP_LAYER, text.tokenizers
        ids_l, ids_g = chunk_ids(words_l, captions, num_chunks, words_l.eos_token_id), chunk_ids(words_g, captions, num_chunks, _CLIP_G_PAD)
        states_l, last_l = clip_states(clip_l, ids_l, layer, normed=False)
        states_g, last_g = clip_states(clip_g, ids_g, layer, normed=False)
        told = {
            "clip_l": states_l,
            # Not projected: so Stability's own code and ComfyUI have it, whatever projection the file brings.
            "clip_l_pooled": clip_end(ids_l, last_l, words_l.eos_token_id),
            "clip_g": states_g,
            "clip_g_pooled": clip_pooled(clip_g, ids_g, last_g, words_g.eos_token_id),
        }
        return told if t5 is None else {**told, "t5": encode_t5(t5, t5_ids(pieces, captions, _CLIP_TOKENS * num_chunks))}

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        """Both CLIPs side by side, padded to T5's width, and T5 behind them along the tokens (Esser et al. 2024, figure 2), as ComfyUI does it."""
        import torch

        both = torch.cat([conditioning["clip_l"], conditioning["clip_g"]], dim=-1)
        t5 = conditioning.get("t5")
        states = torch.nn.functional.pad(both, (0, (_T5_WIDTH if t5 is None else t5.shape[-1]) - both.shape[-1]))
        pooled = torch.cat([conditioning["clip_l_pooled"], conditioning["clip_g_pooled"]], dim=-1)
        return {"states": states if t5 is None else torch.cat([states, t5], dim=1), "pooled": pooled}

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        """Logit-normal with m = 0, s = 1, the best of Esser et al. 2024, shifted by 3 as in their training at 1024 px."""
        return shifted(logit_normal(uniform), _SHIFT)

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return denoiser(
            hidden_states=noisy,
            timestep=times * _NUM_TRAIN_TIMES,
            encoder_hidden_states=conditioning["states"],
            pooled_projections=conditioning["pooled"],
        ).sample

    def sample(
        self,
        base: BaseModel,
        denoiser: nn.Module,
        vae: nn.Module,
        prompts: Sequence[Prompted],
        steps: int,
        guidance: float,
        size_px: tuple[int, int],
    ) -> list[Image.Image]:
        """Euler's method with classifier-free guidance (Ho and Salimans 2022, equation 6)."""
        noise = start_noise(prompts, (self.latent_channels, size_px[1] // self.vae_stride_px, size_px[0] // self.vae_stride_px), denoiser.device)
        positive, negative = (conditioning_of(prompts, side, denoiser.device) for side in (False, True))
        velocity_at = guided(lambda state, times, words: self.predict(denoiser, state, times, words), positive, negative, guidance)
        return decoded(vae, integrate(noise, schedule(steps, _SHIFT), velocity_at))

    def adapter_targets(self, part: Part) -> str:
        """Every linear layer of the blocks, as sd-scripts' networks.lora_sd3; in the encoders attention and MLP."""
        if part in ("text_encoder", "text_encoder_2"):
            return clip_targets()
        if part == "text_encoder_3":
            return t5_targets()
        attention = r"attn2?\.to_[qkv]|attn2?\.to_out\.0|attn\.add_[qkv]_proj|attn\.to_add_out"
        return rf"transformer_blocks\.\d+\.(?:{attention}|ff(?:_context)?\.net\.(?:0\.proj|2)|norm1(?:_context)?\.linear)"

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        config = module.config
        if part == "text_encoder_3":
            return 7 * config.num_layers
        if part != "denoiser":
            return 6 * config.num_hidden_layers
        # The last block's text has neither an output of its attention nor an MLP.
        return 14 * config.num_layers - 3 + 4 * len(config.dual_attention_layers)

    def export_key(self, part: Part, module_name: str) -> str:
        if part == "text_encoder_3":
            return t5_key(module_name)
        if part != "denoiser":
            return clip_key("lora_te1" if part == "text_encoder" else "lora_te2", module_name)
        return f"transformer.{module_name}"

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        clip = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}.get(part)
        if clip is not None:
            return other_clip_names(clip, module_name)
        return () if part == "denoiser" else (f"text_encoders.t5xxl.transformer.{module_name}",)

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        clips = (clip_part(base, "text_encoder", L_KINDS, "", "clip_l"), clip_part(base, "text_encoder_2", G_KINDS, "", "clip_g"))
        t5 = (t5_saved(base, "text_encoder_3"),) if _has_t5(base) else ()
        return (transformer_part(base, _PREFIXES, "x_embedder.proj.weight", "weight"), *clips, *t5)

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        clip_l, clip_g, t5 = text.encoders
        assert clip_l is not None and clip_g is not None
        tables = [(key, getattr(clip, "text_model", clip).embeddings, "token_embedding") for key, clip in (("clip_l", clip_l), ("clip_g", clip_g))]
        return (*tables, *((("t5xxl", t5.encoder, "embed_tokens"),) if t5 is not None else ()))

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        clips = {"text_encoder": clip_places(header, L_KINDS), "text_encoder_2": clip_places(header, G_KINDS)}
        return {"denoiser": transformer_places(header, _prefix(header)), **clips, "text_encoder_3": t5_places(header, T5)}


def _prefix(header: Header) -> str | None:
    """Of a file with SD3's blocks in it; None for any other."""
    for prefix in _PREFIXES:
        if f"{prefix}joint_blocks.0.context_block.attn.qkv.weight" in header.shapes and f"{prefix}x_embedder.proj.weight" in header.shapes:
            return prefix
    return None


def _is_plain(config: dict) -> bool:
    """Of a diffusers folder: SD3.0 has no normed attention, and models for control or filling more channels."""
    return config.get("qk_norm") == "rms_norm" and config.get("in_channels", SD35.latent_channels) == SD35.latent_channels


def _has_t5(base: BaseModel) -> bool:
    path = Path(base.path)
    return (path / "text_encoder_3" / "config.json").is_file() if path.is_dir() else find_part(T5, text_paths(base)) is not None


FAMILIES.register("sd35")(SD35())
