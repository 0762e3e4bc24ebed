"""T5's encoder: out of single files, its sizes told from the tensors' shapes, and its use without a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..formats.native import Place
from ._native import TensorFile, count_blocks, empty, fill

if TYPE_CHECKING:
    import torch
    from torch import nn

_TABLES = ("shared.weight", "encoder.embed_tokens.weight")


def load_t5(file: TensorFile, dtype: torch.dtype) -> nn.Module:
    """The encoder of T5 v1.1 (XXL: 24 blocks, 4096 wide)."""
    from transformers import T5Config, T5EncoderModel

    block = "encoder.block.0.layer"
    # Files have it under either name, or under both.
    table = next((name for name in _TABLES if name in file.names), _TABLES[0])
    vocabulary, width = file.stored(table).shape
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
        return (table if name in _TABLES else name,), Place("")

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


def t5_targets() -> str:
    return r"encoder\.block\.\d+\.layer\.(?:0\.SelfAttention\.[qkvo]|1\.DenseReluDense\.(?:wi_0|wi_1|wo))"


def t5_key(module_name: str) -> str:
    """kohya's name of a module of T5, which sd-scripts counts as the third encoder for FLUX as for SD3."""
    return "lora_te3_" + module_name.replace(".", "_")
