"""Tiny random FLUX.1 and SD3.5 models: as diffusers folders, as files with everything in them, as split files, and in fp8 with scales."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiny import write_letter_tokenizer
from tiny_families import CLIP_WIDTH, TinyBase, clip_model, prefixed, random_models, save_folder, vae_model, vae_tensors, write_file

from athanor.trainer.formats.native import Places, flux_places, sd3_places

T5_WIDTH = 2 * CLIP_WIDTH
HEAD_WIDTH = 64
NUM_BLOCKS = 2


def write_letter_t5_tokenizer(folder: Path) -> int:
    """A T5 tokenizer that knows letters only; returns the rows of a table for it: transformers adds a hundred tokens to it, and T5's own table has 28 more."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁", *(chr(code) for code in range(33, 127))]
    tokenizer = Tokenizer(models.Unigram([(piece, 0.0 if piece.startswith("<") else -2.0) for piece in pieces], unk_id=2))
    tokenizer.normalizer = normalizers.Nmt()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return len(pieces) + 128


def _t5(vocab_size: int):
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": T5_WIDTH, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=vocab_size, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **sizes))


def _flux_components(vocab_size: int, pieces: int, guidance: bool) -> dict[str, object]:
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        num_layers=NUM_BLOCKS,
        num_single_layers=NUM_BLOCKS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=1,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=guidance,
        axes_dims_rope=(8, 28, 28),
    )
    clip = clip_model(vocab_size, "quick_gelu", projected=False)
    return {"transformer": transformer, "vae": vae_model(0.3611, 0.1159), "text_encoder": clip, "text_encoder_2": _t5(pieces)}


def _sd35_components(vocab_size: int, pieces: int, dual: tuple[int, ...]) -> dict[str, object]:
    from diffusers import SD3Transformer2DModel

    transformer = SD3Transformer2DModel(
        num_layers=NUM_BLOCKS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=1,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=HEAD_WIDTH,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=16,
        dual_attention_layers=dual,
        qk_norm="rms_norm",
    )
    clips = {f"text_encoder{number}": clip_model(vocab_size, gelu, projected=True) for number, gelu in (("", "quick_gelu"), ("_2", "gelu"))}
    return {"transformer": transformer, "vae": vae_model(1.5305, 0.0609), **clips, "text_encoder_3": _t5(pieces)}


def _tokenizers(folder: Path, t5: str) -> tuple[int, int]:
    return write_letter_tokenizer(folder / "tokenizer"), write_letter_t5_tokenizer(folder / t5)


def make_flux_folder(folder: Path) -> TinyBase:
    vocab_size, pieces = _tokenizers(folder, "tokenizer_2")
    return save_folder(folder, random_models(lambda: _flux_components(vocab_size, pieces, guidance=True)))


def make_sd35_folder(folder: Path) -> TinyBase:
    vocab_size, pieces = _tokenizers(folder, "tokenizer_3")
    return save_folder(folder, random_models(lambda: _sd35_components(vocab_size, pieces, (0,))))


def flux_models(folder: Path, guidance: bool = True) -> dict[str, object]:
    """With their tokenizers beside the file to come in `folder`."""
    vocab_size, pieces = _tokenizers(folder, "tokenizer_2")
    return random_models(lambda: _flux_components(vocab_size, pieces, guidance))


def sd35_models(folder: Path, dual: tuple[int, ...] = (0,)) -> dict[str, object]:
    vocab_size, pieces = _tokenizers(folder, "tokenizer_3")
    return random_models(lambda: _sd35_components(vocab_size, pieces, dual))


def original(module, places: Places, singles: dict[str, str], norm_leaf: str) -> dict:
    """A transformer's tensors in its authors' names: parts of fused layers one below the other."""
    import torch

    rows: dict[str, list] = {}
    for name, value in module.state_dict().items():
        if name in singles:
            rows[singles[name]] = [(0, value)]
            continue
        layer, _, leaf = name.rpartition(".")
        place = places[layer]
        value = torch.cat(value.chunk(2)[::-1]) if place.swapped else value
        leaf = norm_leaf if value.ndim == 1 and leaf == "weight" else leaf
        rows.setdefault(f"{place.module}.{leaf}", []).append((place.start, value))
    return {name: torch.cat([value for _, value in sorted(parts, key=lambda part: part[0])]) for name, parts in rows.items()}


def t5_tensors(prefix: str, module) -> dict:
    """Files have its token table once."""
    return {prefix + name: value for name, value in module.state_dict().items() if name != "encoder.embed_tokens.weight"}


def flux_tensors(transformer, prefix: str = "model.diffusion_model.") -> dict:
    places = flux_places(NUM_BLOCKS, NUM_BLOCKS, transformer.config.guidance_embeds)
    return {prefix + name: value for name, value in original(transformer, places, {}, "scale").items()}


def sd35_tensors(transformer, prefix: str = "model.diffusion_model.") -> dict:
    places = sd3_places(NUM_BLOCKS, transformer.config.dual_attention_layers)
    return {prefix + name: value for name, value in original(transformer, places, {"pos_embed.pos_embed": "pos_embed"}, "weight").items()}


def make_flux_file(folder: Path) -> TinyBase:
    models = flux_models(folder)
    text = {
        **prefixed("text_encoders.clip_l.transformer.", models["text_encoder"]),
        **t5_tensors("text_encoders.t5xxl.transformer.", models["text_encoder_2"]),
    }
    return write_file(folder / "tiny flux.safetensors", {**flux_tensors(models["transformer"]), **vae_tensors(models, "vae."), **text})


def make_schnell_split(folder: Path) -> TinyBase:
    """In fp8 with scales, as ComfyUI's users have the large ones."""
    models = flux_models(folder, guidance=False)
    files = {
        "flux1-schnell": in_scaled_fp8(flux_tensors(models["transformer"], "")),
        "clip_l": prefixed("", models["text_encoder"]),
        "t5xxl": in_scaled_fp8(t5_tensors("", models["text_encoder_2"])),
        "ae": vae_tensors(models, ""),
    }
    denoiser, clip, t5, vae = (write_file(folder / f"{name}.safetensors", tensors).path for name, tensors in files.items())
    return TinyBase(denoiser, (clip, t5), vae)


def make_sd35_file(folder: Path) -> TinyBase:
    models = sd35_models(folder)
    text = {
        **prefixed("text_encoders.clip_l.transformer.", models["text_encoder"]),
        **prefixed("text_encoders.clip_g.transformer.", models["text_encoder_2"]),
        **t5_tensors("text_encoders.t5xxl.transformer.", models["text_encoder_3"]),
    }
    return write_file(folder / "tiny sd35.safetensors", {**sd35_tensors(models["transformer"]), **vae_tensors(models, "first_stage_model."), **text})


def make_sd35_large_split(folder: Path) -> TinyBase:
    models = sd35_models(folder, dual=())
    clips = {**prefixed("clip_l.transformer.", models["text_encoder"]), **prefixed("clip_g.transformer.", models["text_encoder_2"])}
    files = {
        "sd3.5_large": sd35_tensors(models["transformer"], ""),
        "clips": clips,
        "t5xxl": t5_tensors("", models["text_encoder_3"]),
        "vae": vae_tensors(models, ""),
    }
    denoiser, clip, t5, vae = (write_file(folder / f"{name}.safetensors", tensors).path for name, tensors in files.items())
    return TinyBase(denoiser, (clip, t5), vae)


def in_scaled_fp8(tensors: dict, dtype: str = "float8_e4m3fn") -> dict:
    """Matrices in fp8, each with the scale that makes its largest number fp8's largest; `scaled_fp8` marks the file."""
    import torch

    kind, made = getattr(torch, dtype), {}
    for name, value in tensors.items():
        if value.ndim == 2 and name.endswith(".weight") and "shared" not in name and "relative" not in name:
            scale = value.abs().max() / torch.finfo(kind).max
            made[name] = (value / scale).to(kind)
            made[name.removesuffix("weight") + "scale_weight"] = scale.float().reshape(1)
            made[name.removesuffix("weight") + "scale_input"] = torch.ones(1)
        else:
            made[name] = value
    return {**made, "scaled_fp8": torch.zeros(0, dtype=kind)}


FLOW_MAKERS: dict[tuple[str, str], Callable[[Path], TinyBase]] = {
    ("flux", "folder"): make_flux_folder,
    ("flux", "file"): make_flux_file,
    ("flux", "schnell fp8 split"): make_schnell_split,
    ("sd35", "folder"): make_sd35_folder,
    ("sd35", "file"): make_sd35_file,
    ("sd35", "large split"): make_sd35_large_split,
}
