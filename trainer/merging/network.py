"""What sd-scripts says of a LoRA's size in its metadata, and other programs read."""

from __future__ import annotations

import json
from collections.abc import Sequence


def network_metadata(ranks: Sequence[int], conv_ranks: Sequence[int]) -> dict[str, str]:
    """Of the linear layers (and convolutions of one pixel), and of the other convolutions; `Dynamic` where layers differ, as sd-scripts' own resizing writes it."""
    if not ranks and not conv_ranks:
        return {}
    size, conv_size = _size(ranks or conv_ranks), _size(conv_ranks)
    arguments = {"conv_dim": conv_size, "conv_alpha": conv_size} if conv_ranks else {}
    return {"ss_network_module": "networks.lora", "ss_network_dim": size, "ss_network_alpha": size, "ss_network_args": json.dumps(arguments)}


def _size(ranks: Sequence[int]) -> str:
    return "" if not ranks else str(ranks[0]) if len(set(ranks)) == 1 else "Dynamic"
