"""A tiny random model of each family's true architecture, as a diffusers folder and as the file that people have of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiny import write_letter_tokenizer

NATIVE_PX = 64
CLIP_WIDTH = 64


@dataclass(frozen=True)
class TinyBase:
    """What a maker made: what Load Base Model is given."""

    path: Path
    text_encoders: tuple[Path, ...] = ()
    vae: Path | None = None


Maker = Callable[[Path], TinyBase]


def _unet(**changes):
    from diffusers import UNet2DConditionModel

    sizes = {
        "sample_size": NATIVE_PX // 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": CLIP_WIDTH,
        "attention_head_dim": 8,
    }
    return UNet2DConditionModel(**{**sizes, **changes})


def vae_model(scaling_factor: float, shift_factor: float | None = None):
    """With a shift as SD3 and FLUX have it: sixteen channels and no convolutions around the latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        latent_channels=4 if shift_factor is None else 16,
        shift_factor=shift_factor,
        use_quant_conv=shift_factor is None,
        use_post_quant_conv=shift_factor is None,
        block_out_channels=(32, 32, 32, 32),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        sample_size=NATIVE_PX,
        scaling_factor=scaling_factor,
    )


def clip_model(vocab_size: int, gelu: str, projected: bool):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=CLIP_WIDTH,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=1,
        hidden_act=gelu,
        projection_dim=CLIP_WIDTH,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def save_folder(folder: Path, components: dict[str, object], prediction: str = "epsilon") -> TinyBase:
    from diffusers import DDIMScheduler

    for name, component in components.items():
        component.save_pretrained(folder / name)  # type: ignore[attr-defined]
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction).save_pretrained(folder / "scheduler")
    index = {name: ["library", type(component).__name__] for name, component in components.items()}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return TinyBase(folder)


def _sd15_components(vocab_size: int) -> dict[str, object]:
    return {"unet": _unet(), "vae": vae_model(0.18215), "text_encoder": clip_model(vocab_size, "quick_gelu", projected=False)}


def _sd2_components(vocab_size: int, whole: bool = False) -> dict[str, object]:
    """`whole` has all four levels of the full U-Net, by whose last one both kinds of SD2 are told apart."""
    down, up = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    levels = {"block_out_channels": (32,) * 4, "down_block_types": down, "up_block_types": up} if whole else {}
    unet = _unet(**levels, attention_head_dim=(1,) * (4 if whole else 2), use_linear_projection=True)
    return {"unet": unet, "vae": vae_model(0.18215), "text_encoder": clip_model(vocab_size, "gelu", projected=False)}


def _sdxl_components(vocab_size: int) -> dict[str, object]:
    unet = _unet(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 1, 1),
        cross_attention_dim=2 * CLIP_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=CLIP_WIDTH + 6 * 256,
    )
    clips = {"text_encoder": clip_model(vocab_size, "quick_gelu", projected=False), "text_encoder_2": clip_model(vocab_size, "gelu", projected=True)}
    return {"unet": unet, "vae": vae_model(0.13025), **clips}


def make_sd15_folder(folder: Path) -> TinyBase:
    return save_folder(folder, random_models(_sd15_components, write_letter_tokenizer(folder / "tokenizer")))


def make_sdxl_folder(folder: Path) -> TinyBase:
    return save_folder(folder, random_models(_sdxl_components, write_letter_tokenizer(folder / "tokenizer")))


def make_template_folder(folder: Path) -> TinyBase:
    """Of trainer/families/_template.py."""

    def build(vocab_size: int) -> dict[str, object]:
        unet, text = _unet(in_channels=16, out_channels=16), clip_model(vocab_size, "quick_gelu", projected=False)
        return {"unet": unet, "vae": vae_model(0.5, shift_factor=0.1), "text_encoder": text}

    return save_folder(folder, random_models(build, write_letter_tokenizer(folder / "tokenizer")))


def make_sd15_file(folder: Path) -> TinyBase:
    components = random_models(_sd15_components, write_letter_tokenizer(folder / "tokenizer"))
    return write_file(folder / "tiny sd15.safetensors", {**_unet_tensors(components), **vae_tensors(components), **_l_tensors(components)})


def make_sd2_folder(folder: Path) -> TinyBase:
    return save_folder(folder, random_models(_sd2_components, write_letter_tokenizer(folder / "tokenizer")), "v_prediction")


def make_sd2_file(folder: Path, whole: bool = False) -> TinyBase:
    components = random_models(_sd2_components, write_letter_tokenizer(folder / "tokenizer"), whole)
    text = {f"cond_stage_model.model.{name}": value for name, value in open_clip_tensors(components["text_encoder"]).items()}
    return write_file(folder / "tiny sd2.safetensors", {**_unet_tensors(components), **vae_tensors(components), **text})


def make_sdxl_file(folder: Path, dtype: str = "float32", marks: tuple[str, ...] = (), vocabulary: int = 0) -> TinyBase:
    """`marks` are empty tensors by which files tell what they predict. With a `vocabulary` it is for a tokenizer of that size."""
    import torch

    components = random_models(_sdxl_components, vocabulary or write_letter_tokenizer(folder / "tokenizer"))
    tensors = {**_unet_tensors(components), **vae_tensors(components), **_l_tensors(components, "conditioner.embedders.0.transformer.")}
    tensors |= {f"conditioner.embedders.1.model.{name}": value for name, value in open_clip_tensors(components["text_encoder_2"]).items()}
    kind = getattr(torch, dtype)
    return write_file(folder / "tiny sdxl.safetensors", {**{k: v.to(kind) for k, v in tensors.items()}, **{mark: torch.zeros(1) for mark in marks}})


def make_sdxl_split(folder: Path) -> TinyBase:
    """As people keep a denoiser of its own beside text encoders and autoencoder."""
    components = random_models(_sdxl_components, write_letter_tokenizer(folder / "tokenizer"))
    unet = write_file(folder / "unet.safetensors", _unet_tensors(components, ""))
    both = {**_l_tensors(components, "clip_l.transformer."), **prefixed("clip_g.transformer.", components["text_encoder_2"])}
    clip, vae = (write_file(folder / f"{name}.safetensors", tensors) for name, tensors in (("clip", both), ("vae", prefixed("", components["vae"]))))
    return TinyBase(unet.path, (clip.path,), vae.path)


def random_models(build: Callable[..., dict[str, object]], *sizes: int) -> dict[str, object]:
    import torch

    torch.manual_seed(0)
    return build(*sizes)


def write_file(file: Path, tensors: dict) -> TinyBase:
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return TinyBase(file)


def _unet_tensors(components: dict[str, object], prefix: str = "model.diffusion_model.") -> dict:
    from athanor.trainer.formats.unet_names import UNetLayout

    unet = components["unet"]
    kinds = unet.config.up_block_types  # type: ignore[attr-defined]
    layout = UNetLayout(unet.config.layers_per_block, frozenset(i for i, kind in enumerate(kinds) if "CrossAttn" in kind))  # type: ignore[attr-defined]
    named = ((*name.rpartition("."), value) for name, value in unet.state_dict().items())  # type: ignore[attr-defined]
    return {f"{prefix}{layout.native(layer)}.{leaf}": value for layer, _, leaf, value in named}


def vae_tensors(components: dict[str, object], prefix: str = "first_stage_model.") -> dict:
    from athanor.trainer.families._vae import native_vae_module

    named = [(*name.rpartition("."), value) for name, value in components["vae"].state_dict().items()]  # type: ignore[attr-defined]
    return {
        f"{prefix}{native_vae_module(layer, 4)}.{leaf}": value[:, :, None, None]
        if ".attentions." in layer and leaf == "weight" and value.ndim == 2
        else value
        for layer, _, leaf, value in named
    }


def _l_tensors(components: dict[str, object], prefix: str = "cond_stage_model.transformer.") -> dict:
    return prefixed(prefix, components["text_encoder"])


def prefixed(prefix: str, module) -> dict:
    """Hugging Face's names; `text_model.` stands in front in every file, whatever this version of transformers says."""
    inner = "text_model." if hasattr(module.config, "num_hidden_layers") else ""
    plain = {name.removeprefix("text_model."): value for name, value in module.state_dict().items()}
    return {f"{prefix}{'' if name.startswith('text_projection') else inner}{name}": value for name, value in plain.items()}


def open_clip_tensors(clip) -> dict:
    """OpenCLIP's names of a Hugging Face CLIP: one matrix for query, key and value; the projection from the other side."""
    import torch

    state = {name.removeprefix("text_model."): value for name, value in clip.state_dict().items()}
    tensors = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    if "text_projection.weight" in state:
        tensors["text_projection"] = state["text_projection.weight"].t()
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    for number in range(clip.config.num_hidden_layers):
        old, new = f"encoder.layers.{number}", f"transformer.resblocks.{number}"
        for leaf in ("weight", "bias"):
            tensors |= {f"{new}.{theirs}.{leaf}": state[f"{old}.{ours}.{leaf}"] for ours, theirs in names.items()}
            tensors[f"{new}.attn.in_proj_{leaf}"] = torch.cat([state[f"{old}.self_attn.{x}_proj.{leaf}"] for x in "qkv"])
    return tensors


MAKERS: dict[tuple[str, str], Maker] = {
    ("sd15", "folder"): make_sd15_folder,
    ("sd15", "file"): make_sd15_file,
    ("sd2", "folder"): make_sd2_folder,
    ("sd2", "file"): make_sd2_file,
    ("sdxl", "folder"): make_sdxl_folder,
    ("sdxl", "file"): make_sdxl_file,
    ("sdxl", "split"): make_sdxl_split,
    ("template", "folder"): make_template_folder,
}
"""By family and layout; the contract test runs over all of them."""
