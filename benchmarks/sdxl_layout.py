"""A diffusers folder of SDXL in its full size with random weights: what speed and memory need of a model, without downloading one.

`python benchmarks/sdxl_layout.py FOLDER` writes one (7 GB) to look at; the other benchmarks make their own and delete it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from sd15_layout import autoencoder
from torch import nn

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "shared"))
from full_size import MAKERS
from tiny_families import save_folder

_FACTOR = 0.13025


def write_folder(folder: Path) -> None:
    """In bf16. Signals keep their size from layer to layer, so that nothing fades and nothing overflows."""
    models = MAKERS["sdxl"]()
    with torch.device("meta"):
        vae = autoencoder(scaling_factor=_FACTOR)
    generator = torch.Generator().manual_seed(0)
    models = {"unet": models.pop("denoiser"), "vae": vae, **models}
    save_folder(folder, {name: _filled(model, generator) for name, model in models.items()})


def _filled(model: nn.Module, generator: torch.Generator) -> nn.Module:
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data = (torch.randn(parameter.shape, generator=generator) / math.sqrt(math.prod(parameter.shape[1:]))).bfloat16()
        else:
            parameter.data = torch.full(parameter.shape, float(name.endswith("weight")), dtype=torch.bfloat16)
    for buffer in model.buffers():
        # CLIP's positions.
        buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return model


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]))
