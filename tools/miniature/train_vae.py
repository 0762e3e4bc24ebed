"""Trains the miniature's autoencoder from scratch: `python -m miniature.train_vae <folder>` (from tools/).

It learns everything that the drawing code can make, not only the base's own shapes, because a LoRA can show a new
concept no better than the autoencoder can draw it.
"""

from __future__ import annotations

import copy
import math
import random
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from . import world

SEED = 7
NUM_PICTURES = 6000
CROP_STEPS, CROP_PX, CROP_BATCH = 4000, 48, 24
FULL_STEPS, FULL_BATCH = 900, 8
PEAK_RATE, KL_WEIGHT, EMA_DECAY = 8e-4, 2e-6, 0.998


def build() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(32, 48, 96, 96),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=world.PICTURE_PX,
    )
    # A posterior as wide as its mean at the start drowns the picture in noise for the first thousand steps.
    torch.nn.init.constant_(vae.quant_conv.bias.data[4:], -6.0)
    return vae


def pictures(rng: random.Random, num: int) -> torch.Tensor:
    """A pool of drawings, uint8 [num, 3, px, px]; a little over half of them are scenes of the world."""
    drawn = [world.draw(world.random_scene(rng)) if rng.random() < 0.55 else world.random_doodle(rng) for _ in range(num)]
    return torch.from_numpy(np.stack([np.asarray(image) for image in drawn])).permute(0, 3, 1, 2).contiguous()


def batch(pool: torch.Tensor, size: int, px: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops, turned and mirrored, in -1..1."""
    rows = []
    for index in torch.randint(len(pool), (size,), generator=generator).tolist():
        left, top = torch.randint(pool.shape[-1] - px + 1, (2,), generator=generator).tolist()
        crop = pool[index, :, top : top + px, left : left + px]
        turns, mirrored = torch.randint(4, (1,), generator=generator).item(), torch.randint(2, (1,), generator=generator).item()
        crop = torch.rot90(crop, turns, (1, 2))
        rows.append(crop.flip(2) if mirrored else crop)
    return torch.stack(rows).float().div(127.5).sub(1).to(memory_format=torch.channels_last)


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(vae: AutoencoderKL, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """L1 on pixels and on their differences (sharp edges count), squared error on outliers, and a little KL."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(x).latent_dist
        decoded = vae.decode(posterior.sample()).sample
    decoded = decoded.float()
    error = functional.l1_loss(decoded, x)
    sharp = sum(functional.l1_loss(a, b) for a, b in zip(edges(decoded), edges(x), strict=True))
    coarse = functional.l1_loss(functional.avg_pool2d(decoded, 4), functional.avg_pool2d(x, 4))
    return error + 0.7 * sharp + 0.5 * coarse + functional.mse_loss(decoded, x) + KL_WEIGHT * posterior.kl().float().mean(), error


def main(folder: Path) -> None:
    torch.manual_seed(SEED)
    rng, generator = random.Random(SEED), torch.Generator().manual_seed(SEED)
    pool = pictures(rng, NUM_PICTURES)
    vae = build().to(memory_format=torch.channels_last)
    average = copy.deepcopy(vae).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    total = CROP_STEPS + FULL_STEPS
    for step in range(total):
        rate = PEAK_RATE * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        px, size = (CROP_PX, CROP_BATCH) if step < CROP_STEPS else (world.PICTURE_PX, FULL_BATCH)
        loss, error = loss_of(vae, batch(pool, size, px, generator))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        for slow, fast in zip(average.parameters(), vae.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        if step % 50 == 0:
            sys.stdout.write(f"vae step {step}/{total} loss {loss.item():.4f} l1 {error.item():.4f}\n")
            sys.stdout.flush()
        if step % 500 == 499 or step + 1 == total:
            _save(average, pool, folder)


@torch.no_grad()
def _save(vae: AutoencoderKL, pool: torch.Tensor, folder: Path) -> None:
    """Sets the scaling factor to 1/std of the latents, as in Rombach et al. (2022), section D.1, and saves in fp32."""
    latents = vae.encode(pool[:256].float().div(127.5).sub(1)).latent_dist.mean
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
    vae.save_pretrained(folder / "vae_fp32")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
