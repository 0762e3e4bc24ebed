"""FLUX.1 dev and schnell: rectified flow, a pooled CLIP-L and T5, sixteen latent channels in patches of 2 x 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import Header, read_model_header
from ..formats.native import flux_places
from ..types import BaseModel
from . import FAMILIES
from ._clip import L_KINDS, chunk_ids, clip_end, clip_key, clip_states, clip_targets, load_clip_model, other_clip_names
from ._flow import integrate, logit_normal, resolution_shift, schedule, shifted
from ._latents import conditioning_of, decoded, encoded, load_vae, start_noise
from ._native import TensorFile, count_blocks, empty, fill, locate_in
from ._parts import T5, broken_files, find_any, missing_part, open_any, open_part, text_paths, vae, vae_paths
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
_PACKED_CHANNELS = 64
_VAE, _VAE_SCALE, _VAE_SHIFT = vae("ae.safetensors"), 0.3611, 0.1159
_T5_TOKENS = {"dev": 512, "schnell": 256}
_TRAINED_GUIDANCE = 1.0
"""What dev is told in training, as sd-scripts' guide, ai-toolkit and diffusers do: the LoRA then holds at every guidance of a picture."""
_FOLDER = (("transformer", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"), ("text_encoder_2", "model"))


class Flux:
    name = "flux"
    title = "FLUX.1"
    modelspec_implementation = "https://github.com/black-forest-labs/flux"
    latent_channels = 16
    vae_stride_px = 8
    native_px = 1024
    bucket_step_px = 64
    side_step_px = 16
    large_text = True
    max_chunks = 1
    max_clip_skip = 0
    sampler_name = "Euler"
    text_parts: tuple[Part, ...] = ("text_encoder",)
    has_block_rows = True
    reads_negative_prompt = False
    saves_whole = False
    separate_encoders: tuple[str, ...] = ()

    def matches(self, header: Header) -> bool:
        prefix = _prefix(header)
        if prefix is None:
            return False
        if header.any_key(f"{prefix}distilled_guidance_layer."):
            raise AthanorError("This file is Chroma, a relative of FLUX.1 without its CLIP and modulation; Athanor cannot train it yet.")
        if header.any_key(f"{prefix}double_stream_modulation_img."):
            raise AthanorError("This file is FLUX.2, which Athanor cannot train yet; choose FLUX.1 dev or schnell.")
        if f"{prefix}vector_in.in_layer.weight" not in header.shapes or header.any_key(
            f"{prefix}double_blocks.0.img_mlp.gate_proj.", f"{prefix}txt_norm."
        ):
            raise AthanorError("This file is a relative of FLUX.1 with another text encoder (LongCat-Image, Ovis-Image), which cannot be trained.")
        channels = header.shapes[f"{prefix}img_in.weight"][1]
        if channels != _PACKED_CHANNELS:
            raise AthanorError(
                f"This file is a FLUX.1 for filling or control ({channels} channels come in instead of {_PACKED_CHANNELS}); choose FLUX.1 dev or schnell."
            )
        return True

    def matches_folder(self, folder: Path) -> bool:
        return pipeline_class(folder, "transformer") == "FluxTransformer2DModel" and (
            read_json(folder / "transformer" / "config.json").get("in_channels", _PACKED_CHANNELS) == _PACKED_CHANNELS
        )

    def facts_of_file(self, header: Header) -> BaseFacts:
        prefix = _prefix(header)
        variant = "dev" if f"{prefix}guidance_in.in_layer.weight" in header.shapes else "schnell"
        return BaseFacts(self.native_px, self.bucket_step_px, "flow", variant=variant)

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        config = read_json(folder / "transformer" / "config.json")
        return BaseFacts(self.native_px, self.bucket_step_px, "flow", variant="dev" if config.get("guidance_embeds") else "schnell")

    def reads_guidance(self, base: BaseModel) -> bool:
        """Schnell has no input for it."""
        return base.variant != "schnell"

    def kohya_version(self, base: BaseModel) -> str:
        return "flux1"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return f"flux-1-{base.variant}"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        path = Path(base.path)
        if broken := broken_files(base):
            return broken
        if path.is_dir():
            missing = missing_components(path, _FOLDER)
        else:
            wanted = ((L_KINDS, text_paths(base)), ((T5,), text_paths(base)), ((_VAE,), vae_paths(base)))
            missing = tuple(missing_part(kinds[0], paths) for kinds, paths in wanted if find_any(kinds, paths) is None)
        return (*missing, *missing_tokenizer(base, CLIP_TOKENIZER), *missing_tokenizer(base, T5_TOKENIZER))

    def t5_part(self, base: BaseModel) -> Part | None:
        return "text_encoder_2"

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        """CLIP-L and T5, in this order."""
        from transformers import CLIPTextModel, T5EncoderModel

        path, tokenizers = Path(base.path), (load_tokenizer(base, CLIP_TOKENIZER), load_tokenizer(base, T5_TOKENIZER))
        # What T5 is asked to read goes with its tokenizer: the number of tokens that this variant was made for.
        tokenizers[1].model_max_length = _T5_TOKENS[base.variant]
        if path.is_dir():
            clip, t5 = component(CLIPTextModel, path / "text_encoder", dtype), component(T5EncoderModel, path / "text_encoder_2", dtype)
        else:
            clip = load_clip_model(open_any(L_KINDS, text_paths(base)), dtype, "quick_gelu", projected=False)
            t5 = load_t5(open_part(T5, text_paths(base)), dtype)
        return TextStack(tokenizers, (clip, t5))

    def load_vae(self, base: BaseModel) -> nn.Module:
        return load_vae(base, _VAE, _VAE_SCALE, _VAE_SHIFT)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        from diffusers import FluxTransformer2DModel

        path = Path(base.path)
        if path.is_dir():
            return component(FluxTransformer2DModel, path / "transformer", dtype)
        prefix = _prefix(read_model_header(path))
        assert prefix is not None, "recognised before"
        file = TensorFile(path, prefix)
        num_double, num_single = count_blocks(file.names, "double_blocks"), count_blocks(file.names, "single_blocks")
        guidance = "guidance_in.in_layer.weight" in file.names
        width, channels = file.stored("img_in.weight").shape
        head = file.stored(_norm_key(file.names)).shape[0]
        denoiser = empty(
            lambda: FluxTransformer2DModel(
                in_channels=channels,
                num_layers=num_double,
                num_single_layers=num_single,
                attention_head_dim=head,
                num_attention_heads=width // head,
                joint_attention_dim=file.stored("txt_in.weight").shape[1],
                pooled_projection_dim=file.stored("vector_in.in_layer.weight").shape[1],
                guidance_embeds=guidance,
                # 16, 56 and 56 of 128: the turns of the image number, the row and the column.
                axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
            )
        )
        return fill(denoiser, file, locate_in(flux_places(num_double, num_single, guidance)), dtype, "FLUX.1 transformer")

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encoded(vae, pixels)

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        return decoded(vae, latents)

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        """Always 1: T5 reads 512 tokens (schnell 256), and CLIP-L's pooled output is that of the first 75."""
        return 1

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        clip, t5 = text.encoders
        assert clip is not None and t5 is not None
        words, pieces = text.tokenizers
        ids = chunk_ids(words, captions, 1, words.eos_token_id)
        _, last = clip_states(clip, ids, 1, normed=True)
        return {"states": encode_t5(t5, t5_ids(pieces, captions, pieces.model_max_length)), "pooled": clip_end(ids, last, words.eos_token_id)}

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        return conditioning

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        """Logit-normal, for dev shifted by the number of patches (sd-scripts' `flux_shift`); schnell was made without a shift."""
        times = logit_normal(uniform)
        return shifted(times, resolution_shift(_num_patches(latent_size))) if base.variant == "dev" else times

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return _velocity(denoiser, noisy, times, conditioning, _TRAINED_GUIDANCE)

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
        """Euler's method. Dev is told the guidance (3.5 is usual), schnell has none; neither sees the negative prompt."""
        import torch

        noise = start_noise(prompts, (self.latent_channels, size_px[1] // self.vae_stride_px, size_px[0] // self.vae_stride_px), denoiser.device)
        conditioning = conditioning_of(prompts, False, denoiser.device)
        shift = resolution_shift(_num_patches(noise.shape[-2:])) if base.variant == "dev" else 1.0

        def velocity_at(state: torch.Tensor, time: float) -> torch.Tensor:
            return _velocity(denoiser, state, torch.full((len(prompts),), time, device=state.device), conditioning, guidance)

        return decoded(vae, integrate(noise, schedule(steps, shift), velocity_at))

    def adapter_targets(self, part: Part) -> str:
        """Every linear layer of the blocks, as sd-scripts' networks.lora_flux: its 304 fused ones are 494 here; 72 in CLIP-L and 168 in T5."""
        if part == "text_encoder":
            return clip_targets()
        if part == "text_encoder_2":
            return t5_targets()
        attention = r"to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out"
        double = rf"transformer_blocks\.\d+\.(?:attn\.(?:{attention})|ff(?:_context)?\.net\.(?:0\.proj|2)|norm1(?:_context)?\.linear)"
        return rf"{double}|single_transformer_blocks\.\d+\.(?:attn\.to_[qkv]|proj_mlp|proj_out|norm\.linear)"

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        config = module.config
        if part == "text_encoder":
            return 6 * config.num_hidden_layers
        if part == "text_encoder_2":
            return 7 * config.num_layers
        return 14 * config.num_layers + 6 * config.num_single_layers

    def export_key(self, part: Part, module_name: str) -> str:
        if part == "text_encoder":
            return clip_key("lora_te1", module_name)
        if part == "text_encoder_2":
            return t5_key(module_name)
        return f"transformer.{module_name}"

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        clip = {"text_encoder": "clip_l"}.get(part)
        if clip is not None:
            return other_clip_names(clip, module_name)
        return () if part == "denoiser" else (f"text_encoders.t5xxl.transformer.{module_name}",)

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        denoiser = transformer_part(base, _PREFIXES, "img_in.weight", "scale")
        return (denoiser, clip_part(base, "text_encoder", L_KINDS, "", "clip_l"), t5_saved(base, "text_encoder_2"))

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        clip, t5 = text.encoders
        assert clip is not None and t5 is not None
        return (("clip_l", getattr(clip, "text_model", clip).embeddings, "token_embedding"), ("t5xxl", t5.encoder, "embed_tokens"))

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        text = {"text_encoder": clip_places(header, L_KINDS), "text_encoder_2": t5_places(header, T5)}
        return {"denoiser": transformer_places(header, _prefix(header)), **text}


def _prefix(header: Header) -> str | None:
    """Of a file with FLUX's blocks in it; None for any other."""
    for prefix in _PREFIXES:
        if f"{prefix}double_blocks.0.img_attn.qkv.weight" in header.shapes and f"{prefix}img_in.weight" in header.shapes:
            # HunyuanVideo has double blocks as well, and a text refiner; so have ControlNets.
            return None if header.any_key(f"{prefix}txt_in.individual_token_refiner.", "controlnet_", "input_hint_block.") else prefix
    return None


def _norm_key(names: frozenset[str]) -> str:
    key = "double_blocks.0.img_attn.norm.query_norm."
    return key + ("scale" if f"{key}scale" in names else "weight")


def _num_patches(latent_size: Sequence[int]) -> int:
    return (latent_size[0] // 2) * (latent_size[1] // 2)


def _velocity(denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, guidance: float) -> torch.Tensor:
    """The velocity at `noisy` [B, C, H, W] and `times` [B]; H and W even."""
    import torch

    batch, channels, height, width = noisy.shape
    rows, columns = height // 2, width // 2
    patches = noisy.view(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * 4)
    places = torch.zeros(rows, columns, 3, device=noisy.device)
    places[..., 1] = torch.arange(rows, device=noisy.device)[:, None]
    places[..., 2] = torch.arange(columns, device=noisy.device)[None, :]
    predicted = denoiser(
        hidden_states=patches,
        timestep=times,
        guidance=torch.full_like(times, guidance) if denoiser.config.guidance_embeds else None,
        pooled_projections=conditioning["pooled"],
        encoder_hidden_states=conditioning["states"],
        img_ids=places.reshape(-1, 3),
        txt_ids=torch.zeros(conditioning["states"].shape[1], 3, device=noisy.device),
    ).sample
    return predicted.view(batch, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


FAMILIES.register("flux")(Flux())
