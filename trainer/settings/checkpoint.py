"""What of a whole model is trained, and how its weights are kept meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class CheckpointSettings:
    """Full fine-tuning and DreamBooth (Ruiz et al. 2023): the weights of the model themselves."""

    weights: str = setting(
        "fp32",
        "Number format of the trained weights. fp32 is safe; bf16 takes half of the memory, and is rounded by chance so that small steps add up.",
        choices=("fp32", "bf16"),
    )
    fused_backward: bool = setting(
        False,
        "Moves each weight as soon as its gradient is there, so that the gradients are never all in memory. Needs adafactor, accumulation 1 and max grad norm 0.",
    )
    blocks: str = setting(
        "",
        "Only these parts of the model, with commas between, for example: up_blocks.*, mid_block, or text_encoder.*. Empty takes all.",
        advanced=True,
    )
    pattern: str = setting("", r"Only weights whose name this regular expression finds, for example: attn2\.to_[kv]. Empty takes all.", advanced=True)
