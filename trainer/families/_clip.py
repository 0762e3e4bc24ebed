"""CLIP text encoders as Stable Diffusion uses them: pieces of 75 tokens, each between its own start and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..formats.native import Place
from ._native import TensorFile, count_blocks, empty, fill
from ._parts import PartKind

if TYPE_CHECKING:
    import torch
    from torch import nn

CHUNK_TOKENS = 75
_HEAD_WIDTH = 64

_HF_KEY, _OLD_KEY, _OPEN_KEY = (
    f"{name}.weight" for name in ("text_model.encoder.layers.0.mlp.fc1", "encoder.layers.0.mlp.fc1", "transformer.resblocks.0.mlp.c_fc")
)
_L_PREFIXES = (
    "conditioner.embedders.0.transformer.",
    "cond_stage_model.transformer.",
    "text_encoders.clip_l.transformer.",
    "clip_l.transformer.",
    "",
)


def _is_l(shape: tuple[int, ...]) -> bool:
    return shape[-1] < 1024


def _kind(letter: str, prefixes: tuple[str, ...], key: str, fits: Callable[[tuple[int, ...]], bool]) -> PartKind:
    return PartKind(f"CLIP-{letter.upper()}", f"clip_{letter}.safetensors", "text_encoders", prefixes, key, fits)


L_KINDS = (_kind("l", _L_PREFIXES, _HF_KEY, _is_l), _kind("l", ("cond_stage_model.transformer.",), _OLD_KEY, _is_l))
G_KINDS = (
    _kind("g", ("conditioner.embedders.1.model.", ""), _OPEN_KEY, lambda shape: True),
    _kind("g", ("text_encoders.clip_g.transformer.", "clip_g.transformer."), _HF_KEY, lambda shape: True),
    _kind("g", ("",), _HF_KEY, lambda shape: shape[-1] >= 1280),
)
H_KINDS = (
    _kind("h", ("cond_stage_model.model.", "conditioner.embedders.0.model.", ""), _OPEN_KEY, lambda shape: True),
    _kind("h", ("text_encoders.clip_h.transformer.", "clip_h.transformer.", ""), _HF_KEY, lambda shape: shape[-1] == 1024),
)


def token_ids(tokenizer, captions: Sequence[str]) -> list[list[int]]:
    """Token ids of each caption without start and end."""
    return [tokenizer(caption, add_special_tokens=False, truncation=False)["input_ids"] for caption in captions]


def count_chunks(tokenizer, captions: Sequence[str]) -> int:
    longest = max((len(ids) for ids in token_ids(tokenizer, captions)), default=0)
    return max(1, -(-longest // CHUNK_TOKENS))


def chunk_ids(tokenizer, captions: Sequence[str], num_chunks: int, pad_id: int) -> torch.Tensor:
    """Ids [B, num_chunks, 77]; what does not fit is cut off, what is empty is padded."""
    import torch

    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows = []
    for ids in token_ids(tokenizer, captions):
        chunks = []
        for i in range(num_chunks):
            piece = ids[i * CHUNK_TOKENS : (i + 1) * CHUNK_TOKENS]
            chunks.append([start, *piece, end] + [pad_id] * (CHUNK_TOKENS - len(piece)))
        rows.append(chunks)
    return torch.tensor(rows, dtype=torch.long)


def clip_states(encoder: nn.Module, ids: torch.Tensor, layer: int, normed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What `layer`, counted from the last, which is 1, makes of ids [B, num_chunks, 77], and the end of the whole encoder.

    States [B, num_chunks * 77, D], the pieces one after the other as in ComfyUI and A1111, through the final norm where
    `normed`; and the last layer's normed states of each piece, [B, num_chunks, 77, D].
    """
    batch, num_chunks, length = ids.shape
    text = getattr(encoder, "text_model", encoder)
    seen: list[torch.Tensor] = []
    hook = text.encoder.layers[-layer].register_forward_hook(
        lambda module, given, made: seen.append(made if not isinstance(made, tuple) else made[0])
    )
    try:
        last = encoder(input_ids=ids.reshape(batch * num_chunks, length).to(encoder.device)).last_hidden_state
    finally:
        hook.remove()
    states = text.final_layer_norm(seen[0]) if normed else seen[0]
    return states.reshape(batch, num_chunks * length, -1), last.reshape(batch, num_chunks, length, -1)


def clip_pooled(encoder: nn.Module, ids: torch.Tensor, last: torch.Tensor, end_id: int) -> torch.Tensor:
    """[B, D]: the projected state of the first piece at its first end token. `ids` and `last` as in `clip_states`."""
    return encoder.text_projection(clip_end(ids, last, end_id))


def clip_end(ids: torch.Tensor, last: torch.Tensor, end_id: int) -> torch.Tensor:
    """[B, D]: the state of the first piece at its first end token, not projected."""
    import torch

    ends = (ids[:, 0] == end_id).int().argmax(dim=-1).to(last.device)
    return last[torch.arange(len(ids), device=last.device), 0, ends]


def load_clip_model(file: TensorFile, dtype: torch.dtype, gelu: str, projected: bool) -> nn.Module:
    """A CLIP text encoder in the names of Hugging Face or of OpenCLIP; `projected` where its pooled output is used."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    open_clip = "token_embedding.weight" in file.names
    inner = "text_model." if any(name.startswith("text_model.") for name in file.names) else ""
    table = file.stored("token_embedding.weight" if open_clip else f"{inner}embeddings.token_embedding.weight")
    first = file.stored("transformer.resblocks.0.mlp.c_fc.weight" if open_clip else f"{inner}encoder.layers.0.mlp.fc1.weight")
    vocabulary, width = table.shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=first.shape[0],
        num_hidden_layers=count_blocks(file.names, "transformer.resblocks" if open_clip else f"{inner}encoder.layers"),
        num_attention_heads=width // _HEAD_WIDTH,
        max_position_embeddings=CHUNK_TOKENS + 2,
        hidden_act=gelu,
        projection_dim=width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )

    def locate(name: str) -> tuple[tuple[str, ...], Place]:
        # Versions of transformers differ in whether the text model is a module of its own.
        plain = name.removeprefix("text_model.")
        if plain.startswith("text_projection"):
            return (plain, "text_projection"), Place("")
        return open_clip_name(plain) if open_clip else ((f"{inner}{plain}",), Place(""))

    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    encoder = fill(empty(lambda: kind(config)), file, locate, dtype, "CLIP text encoder")
    if projected and "text_projection" in file.names:
        # OpenCLIP multiplies by it from the other side.
        encoder.text_projection.weight.data = encoder.text_projection.weight.data.t().contiguous()
    return encoder


_OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
_OPEN_CLIP_SINGLE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def open_clip_name(name: str) -> tuple[tuple[str, ...], Place]:
    """Where OpenCLIP has a tensor of Hugging Face's CLIP: query, key and value are one matrix there."""
    if name in _OPEN_CLIP_SINGLE:
        return (_OPEN_CLIP_SINGLE[name],), Place("")
    _, _, number, rest = name.split(".", 3)
    layer, _, leaf = rest.rpartition(".")
    block = f"transformer.resblocks.{number}"
    if layer in _OPEN_CLIP:
        return (f"{block}.{_OPEN_CLIP[layer]}.{leaf}",), Place("")
    return (f"{block}.attn.in_proj_{leaf}",), Place("", "qkv".index(layer.removeprefix("self_attn.")[0]), 1, 3)


def clip_targets() -> str:
    return r"(?:text_model\.)?encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])"


def other_clip_names(name: str, module_name: str) -> tuple[str, ...]:
    """Names of a module of the encoder that ComfyUI calls `name`, such as clip_l: ComfyUI's own, and diffusers' behind the part's."""
    inner = _inner(module_name)
    return f"text_encoders.{name}.transformer.{inner}", inner


def clip_key(prefix: str, module_name: str) -> str:
    """kohya's name of a module of CLIP, whichever way this version of transformers calls it."""
    return f"{prefix}_{_inner(module_name).replace('.', '_')}"


def _inner(module_name: str) -> str:
    """Within the text model, of which the projection of its output is no part."""
    return module_name if module_name == "text_projection" else "text_model." + module_name.removeprefix("text_model.")
