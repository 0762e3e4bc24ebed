"""Stable Diffusion 1.x: epsilon prediction, one CLIP-L text encoder, four latent channels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import Header
from ..noise import discrete
from ..types import BaseModel
from . import FAMILIES
from ._clip import chunk_ids, count_chunks, encode_chunks
from ._weights import folder_weights, load_component, read_json, read_tensors
from .base import BaseFacts, Conditioning, Framing, Part, Prompted, TextStack

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_CONFIGS = Path(__file__).parent / "configs" / "sd15"
_TEXT_PREFIX = "cond_stage_model.transformer."


class SD15:
    name = "sd15"
    title = "SD1.5"
    modelspec_implementation = "diffusers"
    latent_channels = 4
    vae_stride_px = 8
    native_px = 512
    bucket_step_px = 64
    max_chunks = 3
    text_parts: tuple[Part, ...] = ("text_encoder",)

    def matches(self, header: Header) -> bool:
        context = header.shapes.get("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight")
        channels = header.shapes.get("model.diffusion_model.input_blocks.0.0.weight")
        return context == (320, 768) and channels is not None and channels[1] == self.latent_channels

    def matches_folder(self, folder: Path) -> bool:
        if not (folder / "model_index.json").is_file() or not (folder / "unet" / "config.json").is_file():
            return False
        index, unet = read_json(folder / "model_index.json"), read_json(folder / "unet" / "config.json")
        scheduler = folder / "scheduler" / "scheduler_config.json"
        prediction = read_json(scheduler).get("prediction_type", "epsilon") if scheduler.is_file() else "epsilon"
        text_encoders = [key for key in index if key.startswith("text_encoder") and index[key][0] is not None]
        return (
            unet.get("_class_name") == "UNet2DConditionModel"
            and unet.get("in_channels") == self.latent_channels
            and unet.get("cross_attention_dim") != 1024
            and text_encoders == ["text_encoder"]
            and prediction == "epsilon"
        )

    def facts_of_file(self, header: Header) -> BaseFacts:
        return BaseFacts(self.native_px, self.bucket_step_px, "epsilon")

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        unet = read_json(folder / "unet" / "config.json")
        native = int(unet.get("sample_size", 64)) * self.vae_stride_px
        # The U-Net halves its picture once a level but the last; a small model need not be held to the 64 px of the full one.
        smallest = self.vae_stride_px * 2 ** (len(unet["block_out_channels"]) - 1)
        return BaseFacts(native, self.bucket_step_px if native >= self.native_px else smallest, "epsilon")

    def kohya_version(self, base: BaseModel) -> str:
        return "sd_v1"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return "stable-diffusion-v1"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        path = Path(base.path)
        if not path.exists():
            return (f"The base model {path} is not there any more; choose another one in Load Base Model.",)
        missing = []
        if path.is_dir():
            for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
                if not (path / part / "config.json").is_file():
                    missing.append(f"The base model lacks {path / part / 'config.json'}; copy it there from the model's page.")
                if folder_weights(path / part, stem) is None:
                    missing.append(f"The base model lacks {path / part / (stem + '.safetensors')}; copy it there from the model's page.")
        if self._tokenizer_folder(base) is None:
            places = ", ".join(map(str, self._tokenizer_places(base)))
            missing.append(f"No CLIP tokenizer (vocab.json and merges.txt) was found in {places}; put both files into one of these folders.")
        return tuple(missing)

    def _tokenizer_places(self, base: BaseModel) -> tuple[Path, ...]:
        path = Path(base.path)
        beside = (path / "tokenizer",) if path.is_dir() else (path.parent / "tokenizer",)
        return (*beside, *(Path(folder) / "sd1_tokenizer" for folder in base.tokenizer_folders), *(Path(folder) for folder in base.tokenizer_folders))

    def _tokenizer_folder(self, base: BaseModel) -> Path | None:
        return next((place for place in self._tokenizer_places(base) if (place / "vocab.json").is_file() and (place / "merges.txt").is_file()), None)

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        import torch
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        path = Path(base.path)
        tokenizer_folder = self._tokenizer_folder(base)
        if tokenizer_folder is None:
            raise AthanorError(self.missing_files(base)[0])
        tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True)
        if path.is_dir():
            encoder = CLIPTextModel.from_pretrained(str(path / "text_encoder"), torch_dtype=dtype, local_files_only=True, use_safetensors=True)
        else:
            with torch.device("meta"):
                encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(str(_CONFIGS / "text_encoder")))
            tensors = {_encoder_key(key): value.to(dtype) for key, value in read_tensors(path, (_TEXT_PREFIX,)).items()}
            _assign(encoder, tensors, base)
        return TextStack((tokenizer,), (encoder.eval().requires_grad_(False),))

    def load_vae(self, base: BaseModel) -> nn.Module:
        import torch
        from diffusers import AutoencoderKL

        return load_component(AutoencoderKL, Path(base.path), "vae", _CONFIGS, "first_stage_model.", torch.float32)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        from diffusers import UNet2DConditionModel

        return load_component(UNet2DConditionModel, Path(base.path), "unet", _CONFIGS, "model.diffusion_model.", dtype)

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = vae.encode(pixels).latent_dist
        return posterior.mean * vae.config.scaling_factor, posterior.std * vae.config.scaling_factor

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        from PIL import Image

        pixels = vae.decode(latents.float() / vae.config.scaling_factor).sample
        arrays = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(array) for array in arrays]

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        return count_chunks(text.tokenizers[0], captions)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        tokenizer, encoder = text.tokenizers[0], text.encoders[0]
        return {"states": encode_chunks(encoder, chunk_ids(tokenizer, captions, num_chunks, tokenizer.eos_token_id))}

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        return conditioning

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        return uniform

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return denoiser(noisy, discrete(times), conditioning["states"]).sample

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
        """DDIM (Song et al. 2021) with classifier-free guidance (Ho and Salimans 2022, equation 6)."""
        import torch
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_pretrained(str(_CONFIGS / "scheduler"), local_files_only=True)
        scheduler.set_timesteps(steps)
        shape = (self.latent_channels, size_px[1] // self.vae_stride_px, size_px[0] // self.vae_stride_px)
        latents = torch.stack([torch.randn(shape, generator=torch.Generator("cpu").manual_seed(prompt.seed)) for prompt in prompts]).to(
            denoiser.device
        )
        positive = torch.cat([prompt.positive["states"] for prompt in prompts]).to(denoiser.device)
        negative = torch.cat([prompt.negative["states"] for prompt in prompts]).to(denoiser.device)
        for time in scheduler.timesteps:
            predicted = denoiser(latents, time, positive).sample.float()
            if guidance != 1.0:
                without = denoiser(latents, time, negative).sample.float()
                predicted = without + guidance * (predicted - without)
            latents = scheduler.step(predicted, time, latents).prev_sample
        return self.decode_latents(vae, latents)

    def adapter_targets(self, part: Part) -> str:
        """The modules that sd-scripts' networks.lora trains: 192 in the full U-Net, 72 in the text encoder."""
        if part == "text_encoder":
            return r"(?:text_model\.)?encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])"
        block = r"transformer_blocks\.\d+\.(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2))"
        return rf".*\.attentions\.\d+\.(?:proj_in|proj_out|{block})"

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        config = module.config
        if part == "text_encoder":
            return 6 * config.num_hidden_layers
        down = sum(config.layers_per_block for kind in config.down_block_types if kind.startswith("CrossAttn"))
        up = sum(config.layers_per_block + 1 for kind in config.up_block_types if kind.startswith("CrossAttn"))
        return 12 * (down + 1 + up)

    def export_key(self, part: Part, module_name: str) -> str:
        if part == "text_encoder":
            return "lora_te_text_model_" + module_name.removeprefix("text_model.").replace(".", "_")
        return "lora_unet_" + module_name.replace(".", "_")

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        encoder = text.encoders[0]
        embeddings = next(module for name, module in encoder.named_modules() if re.fullmatch(r"(?:text_model\.)?embeddings", name))
        return (("emb_params", embeddings, "token_embedding"),)


def _encoder_key(key: str) -> str:
    return key.removeprefix(_TEXT_PREFIX).removeprefix("text_model.")


def _assign(encoder: nn.Module, tensors: dict[str, torch.Tensor], base: BaseModel) -> None:
    """Puts the checkpoint's tensors into the module, whichever spelling this version of transformers uses."""
    names = {name.removeprefix("text_model."): name for name in encoder.state_dict()}
    missing = [name for name in names if name not in tensors]
    if missing:
        raise AthanorError(f"The text encoder in {base.path} lacks {missing[0]}; the file is not a whole SD1.5 checkpoint.")
    encoder.load_state_dict({names[name]: tensors[name] for name in names}, assign=True)
    for module in encoder.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name == "position_ids":
                import torch

                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)


FAMILIES.register("sd15")(SD15())
