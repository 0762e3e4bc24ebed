"""What every training is told first."""

from __future__ import annotations

from dataclasses import dataclass

from ..optimizing.optimizers import OPTIMIZERS
from ..optimizing.schedules import SCHEDULES
from .field import setting


@dataclass(frozen=True)
class TrainSettings:
    epochs: int = setting(10, "How often every image (times its repeats) is seen. Usual: 5 to 20 for 20 to 50 images.", 1, 100_000)
    batch_size: int = setting(1, "Images in one step. Larger is steadier and needs more memory. Usual: 1 to 4.", 1, 1024)
    rate: float = setting(1e-4, "Learning rate of the U-Net or transformer. Usual: 0.0001 to 0.0004; 0 leaves it out.", 0.0, 10.0, step=1e-6)
    text_encoder_rate: float = setting(
        5e-5,
        "Learning rate of the text encoder. Usual: half of the other rate, or 0, which leaves it out, so that its outputs are cached.",
        0.0,
        10.0,
        step=1e-6,
    )
    optimizer: str = setting(
        "adamw",
        "How the weights are moved. adamw suits nearly always; the 8-bit ones take less memory; prodigy finds the rate by itself (set the rates to 1).",
        choices=OPTIMIZERS.names(),
    )
    weight_decay: float = setting(
        0.01, "Pulls the trained weights towards zero, a little each step. Usual: 0 to 0.1.", 0.0, 1.0, step=0.001, advanced=True
    )
    schedule: str = setting("cosine", "How the learning rate falls over the run.", choices=SCHEDULES.names())
    warmup_percent: float = setting(5.0, "Percent of the steps over which the rate rises from zero. Usual: 0 to 10.", 0.0, 100.0)
    max_grad_norm: float = setting(1.0, "Gradients longer than this are shortened to it. Usual: 1; 0 turns it off.", 0.0, 1000.0, advanced=True)
    save_every_epochs: int = setting(1, "Keep what is trained after every n-th epoch, and always after the last. Usual: 1 to 5.", 1, 100_000)
    precision: str = setting(
        "bf16",
        "Number format of the forward and backward pass; LoRAs and embeddings stay in fp32. fp16 is for GPUs without bf16, older than the RTX 30 series.",
        choices=("bf16", "fp16", "fp32"),
    )
    save_precision: str = setting("fp16", "Number format of the saved files.", choices=("fp16", "bf16", "fp32"), advanced=True)
    seed: int = setting(0, "Same seed, same run.", 0, 2**32 - 1)
    base_precision: str = setting(
        "auto",
        "Number format in which the base's weights wait in memory: fp8 and int8 take half the memory of bf16, nf4 (with bitsandbytes) a quarter. auto takes the best that fits.",
        choices=("auto", "fp32", "bf16", "fp16", "fp8", "nf4", "int8"),
        advanced=True,
    )
