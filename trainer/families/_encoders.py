"""CLIP-L, CLIP-G and T5 out of single files, told from their tensors' shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..formats.native import Place
from ._native import TensorFile, count_blocks, empty, fill

if TYPE_CHECKING:
    import torch
    from torch import nn

_CLIP_HEAD_WIDTH, _CLIP_TOKENS = 64, 77
CLIP_L_WIDTH, CLIP_G_WIDTH = 768, 1280


def load_clip(file: TensorFile, dtype: torch.dtype) -> nn.Module:
    """CLIP's text model in the layout of Hugging Face, with its projection where the file has one and its pooled output is used projected (CLIP-G)."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    table, hidden = file.stored("text_model.embeddings.token_embedding.weight"), file.stored("text_model.encoder.layers.0.mlp.fc1.weight")
    vocabulary, width = table.shape
    projected = width != CLIP_L_WIDTH and "text_projection.weight" in file.names
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=hidden.shape[0],
        num_hidden_layers=count_blocks(file.names, "text_model.encoder.layers"),
        num_attention_heads=width // _CLIP_HEAD_WIDTH,
        max_position_embeddings=_CLIP_TOKENS,
        hidden_act="quick_gelu" if width == CLIP_L_WIDTH else "gelu",
        projection_dim=file.stored("text_projection.weight").shape[0] if projected else width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel

    def locate(name: str) -> tuple[tuple[str, ...], Place]:
        # Versions of transformers differ in whether the text model is a module of its own.
        plain = name.removeprefix("text_model.")
        return (name if name.startswith("text_projection") else f"text_model.{plain}",), Place("")

    return fill(empty(lambda: kind(config)), file, locate, dtype, "CLIP text encoder")


def load_t5(file: TensorFile, dtype: torch.dtype) -> nn.Module:
    """The encoder of T5 v1.1 (XXL: 24 blocks, 4096 wide)."""
    from transformers import T5Config, T5EncoderModel

    block = "encoder.block.0.layer"
    vocabulary, width = file.stored("shared.weight").shape
    heads = file.stored(f"{block}.0.SelfAttention.relative_attention_bias.weight").shape[1]
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=file.stored(f"{block}.0.SelfAttention.q.weight").shape[0] // heads,
        d_ff=file.stored(f"{block}.1.DenseReluDense.wi_0.weight").shape[0],
        num_layers=count_blocks(file.names, "encoder.block"),
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )

    def locate(name: str) -> tuple[tuple[str, ...], Place]:
        return ("shared.weight" if name == "encoder.embed_tokens.weight" else name,), Place("")

    encoder = fill(empty(lambda: T5EncoderModel(config)), file, locate, dtype, "T5 text encoder")
    encoder.encoder.embed_tokens = encoder.shared
    return encoder


def t5_ids(tokenizer, captions: Sequence[str], num_tokens: int) -> torch.Tensor:
    """Ids [B, num_tokens] with the end token last and padding after it; what does not fit is cut off."""
    import torch

    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = []
    for caption in captions:
        ids = tokenizer(caption, add_special_tokens=False, truncation=False)["input_ids"][: num_tokens - 1]
        rows.append([*ids, end] + [pad] * (num_tokens - 1 - len(ids)))
    return torch.tensor(rows, dtype=torch.long)


def encode_t5(encoder: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """States [B, T, D]. Padding is seen like words, as BFL's code and ComfyUI do it."""
    return encoder(input_ids=ids.to(encoder.device), attention_mask=None).last_hidden_state
