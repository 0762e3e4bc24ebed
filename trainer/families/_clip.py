"""CLIP text encoders as Stable Diffusion uses them: pieces of 75 tokens, each between its own start and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

CHUNK_TOKENS = 75


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


def encode_chunks(encoder: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states [B, num_chunks * 77, D], the pieces one after the other as in ComfyUI and A1111."""
    batch, num_chunks, length = ids.shape
    states = encoder(input_ids=ids.reshape(batch * num_chunks, length).to(encoder.device)).last_hidden_state
    return states.reshape(batch, num_chunks * length, -1)
